//! The promises of the sealed file that hold for any content: every size comes back whole and in any piece, any change
//! of any byte is refused, and so is a cut at any place. The fixed cases are in `vectors.rs`.

use std::io;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::keys::Entropy;
use super::vectors::kinds;
use super::vectors::{Made, Script, journal, made, plain};
use super::*;
use crate::names::DropId;
use crate::sums::{Keeps, Sums};

struct Bytes<'a>(&'a [u8]);

impl ReadAt for Bytes<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..at.checked_add(buffer.len())?));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What a careful reader does with a whole file.
fn open_whole(bytes: &[u8], identity: &Identity) -> Result<Vec<u8>, ReadError> {
    let head = Head::parse(bytes)?;
    let envelope = Envelope::parse(bytes.get(HEAD_LEN..HEADER_LEN).ok_or(SealError::Length)?)?;
    let key = envelope.open(&head, identity)?;
    let mut reader = Reader::open(Bytes(bytes), bytes.len() as u64, &key)?;
    let mut plain = Vec::new();
    reader.stream(|chunk| {
        plain.extend_from_slice(chunk);
        Ok::<(), ReadError>(())
    })?;
    Ok(plain)
}

fn small() -> Made {
    made("small", Kem::P256, 300)
}

#[test]
fn any_change_of_any_byte_of_head_stanza_body_and_end_is_refused() {
    let made = small();
    let good = made.bytes();
    // The envelope's padding is 7,955 bytes that one rule covers: try its ends. Its revision is free to change.
    let padding = 104 + 133;
    let places = (0..100).chain(104..padding + 2).chain(HEADER_LEN - 2..good.len());
    for place in places {
        for bit in [0x01, 0x80] {
            let mut bytes = good.clone();
            bytes[place] ^= bit;
            assert!(open_whole(&bytes, &made.identity).is_err(), "byte {place} ^ {bit:#x}");
        }
    }
}

#[test]
fn a_cut_at_any_place_is_refused() {
    let made = made("cut", Kem::X25519, CHUNK + 300);
    let good = made.bytes();
    let records = [HEADER_LEN, HEADER_LEN + RECORD_LEN, HEADER_LEN + RECORD_LEN + 332];
    let near = records.iter().flat_map(|at| at - 40..at + 40);
    let places = (0..130).chain(near).chain(good.len() - 400..good.len());
    for place in places {
        assert!(open_whole(&good[..place], &made.identity).is_err(), "cut at {place}");
    }
    assert_eq!(open_whole(&good, &made.identity).unwrap(), made.plain);
}

#[test]
fn failures_that_depend_on_a_key_read_the_same() {
    let made = small();
    let mut said = Vec::new();
    for place in [64, 104 + 14 + 6 + 3, 104 + 132, HEADER_LEN, HEADER_LEN + 20, made.bytes().len() - 50] {
        let mut bytes = made.bytes();
        bytes[place] ^= 1;
        said.push(open_whole(&bytes, &made.identity).unwrap_err().to_string());
    }
    said.dedup();
    assert_eq!(said, ["the file is damaged or the key is wrong"]);
}

#[test]
fn a_record_opens_in_its_own_place_only() {
    let made = small();
    let mut records = Records::new(&made.head, &made.key);
    // Around the places where a region ends, and at the last index there is.
    for index in [0, 4095, 4096, 8191, 8192, (1 << 30) - 1] {
        let mut record = Vec::new();
        records.seal(index, 3, false, &plain(CHUNK), &mut record).unwrap();
        assert_eq!(record_generation(&record), Some(3));
        let mut open = |index, generation, last| {
            let mut copy = record.clone();
            records.open(index, generation, last, &mut copy).map(|plain| plain.to_vec())
        };
        assert!(open(index, 3, false).unwrap() == plain(CHUNK));
        assert_eq!(open(index ^ 1, 3, false), Err(SealError::Damaged));
        assert_eq!(open(index ^ 4096, 3, false), Err(SealError::Damaged));
        assert_eq!(open(index, 2, false), Err(SealError::Damaged));
        assert_eq!(open(index, 3, true), Err(SealError::Damaged));
    }
    assert_eq!(records.seal(1 << 30, 0, true, &[], &mut Vec::new()), Err(SealError::Limit("a record's index")));
}

#[test]
fn a_record_of_the_wrong_length_is_never_sealed() {
    let made = small();
    let mut records = Records::new(&made.head, &made.key);
    let mut out = b"before".to_vec();
    let limit = Err(SealError::Limit("a record"));
    assert_eq!(records.seal(0, 0, true, &plain(CHUNK), &mut out), limit);
    assert_eq!(records.seal(0, 0, false, &plain(CHUNK - 1), &mut out), limit);
    assert_eq!(records.seal(0, 0, false, &plain(CHUNK + 1), &mut out), limit);
    assert_eq!(records.seal(0, GENERATION_MAX + 1, true, &[], &mut out), limit);
    assert_eq!(out, b"before");
}

/// A kernel that gives nothing.
struct Dry;

impl Entropy for Dry {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), SealError> {
        Err(SealError::Entropy)
    }
}

#[test]
#[cfg_attr(feature = "fips", ignore = "the module draws its nonces itself")]
fn without_randomness_nothing_is_sealed() {
    let made = small();
    let mut out = Vec::new();
    let mut records = Records::new(&made.head, &made.key);
    assert_eq!(records.seal_with(&mut Dry, 0, 0, true, b"secret", &mut out), Err(SealError::Entropy));
    assert!(out.is_empty());
    assert_eq!(made.trailer.seal_with(&mut Dry, &made.head, &made.key).err(), Some(SealError::Entropy));
    let to = [made.identity.to_recipient()];
    assert_eq!(Envelope::wrap_with(&mut Dry, &made.head, &made.key, &to).err(), Some(SealError::Entropy));
    assert_eq!(FileKey::draw(&mut Dry).err(), Some(SealError::Entropy));
    assert_eq!(Identity::generate_with(&mut Dry, Kem::P256).err(), Some(SealError::Entropy));
}

#[test]
fn nonces_are_fresh_for_every_record_and_every_rewriting() {
    let made = small();
    let mut records = Records::new(&made.head, &made.key);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..1000 {
        let mut record = Vec::new();
        records.seal(0, 0, true, b"the same", &mut record).unwrap();
        assert!(seen.insert(record[4..16].to_vec()));
    }
}

#[test]
fn an_envelope_takes_sixty_recipients_and_a_shred_wrap_over_them() {
    let made = small();
    let one = made.identity.to_recipient();
    let many = vec![one.clone(); RECIPIENTS_MAX];
    assert_eq!(many.len(), 60);
    let envelope = Envelope::wrap(&made.head, &made.key, &many).unwrap();
    let bucket = ShredKey::generate().unwrap();
    let wrapped = envelope.shred_wrap(&made.head, 7, &bucket).unwrap();
    assert_eq!((wrapped.bucket(), wrapped.revision(), wrapped.to_bytes().len()), (Some(7), 1, ENVELOPE_LEN));
    let again = Envelope::parse(&wrapped.to_bytes()).unwrap().shred_unwrap(&made.head, &bucket).unwrap();
    assert_eq!(again.stanza_ids(), vec![one.stanza_id(); 60]);
    assert!(again.open(&made.head, &made.identity).is_ok());
    assert_eq!(wrapped.shred_wrap(&made.head, 8, &bucket).err(), Some(SealError::ShredWrapped));
    assert_eq!(envelope.shred_unwrap(&made.head, &bucket).err(), Some(SealError::NotShredWrapped));
    let too_many = vec![one; RECIPIENTS_MAX + 1];
    assert_eq!(Envelope::wrap(&made.head, &made.key, &too_many).err(), Some(SealError::Recipients));
    assert_eq!(Envelope::wrap(&made.head, &made.key, &[]).err(), Some(SealError::Recipients));
}

#[test]
fn an_envelope_takes_six_hybrid_recipients_and_a_passphrase_under_a_shred_wrap() {
    let made = small();
    let hybrid = Identity::generate(Kem::MlKem768P256).unwrap();
    let words = Passphrase::generate().unwrap();
    let mut to = vec![hybrid.to_recipient(); 6];
    let envelope = Envelope::wrap_and_lock(&made.head, &made.key, &to, &words).unwrap();
    let bucket = ShredKey::generate().unwrap();
    let wrapped = envelope.shred_wrap(&made.head, 7, &bucket).unwrap();
    assert_eq!(wrapped.stanza_ids(), [StanzaId { kind: StanzaKind::Shred, key_id: 7u64.to_be_bytes() }]);
    let again = Envelope::parse(&wrapped.to_bytes()).unwrap().shred_unwrap(&made.head, &bucket).unwrap();
    assert_eq!(again.stanza_ids()[..6], [hybrid.to_recipient().stanza_id(); 6]);
    assert_eq!(again.stanza_ids()[6].kind, StanzaKind::Passphrase);
    for key in [again.open(&made.head, &hybrid), again.open_passphrase(&made.head, &words)] {
        assert_eq!(key.unwrap().expose(), made.key.expose());
    }
    let other = Passphrase::new("another").unwrap();
    assert_eq!(again.open_passphrase(&made.head, &other).err(), Some(SealError::Damaged));
    to.push(hybrid.to_recipient());
    assert_eq!(Envelope::wrap(&made.head, &made.key, &to).err(), Some(SealError::Recipients));
    let length: usize = to.iter().map(Recipient::stanza_len).sum();
    assert!(length > STANZAS_LEN_MAX, "and who counts before sealing finds the same");
}

#[test]
fn once_its_bucket_key_is_gone_no_other_key_opens_a_wrapped_file() {
    let made = small();
    let envelope = Envelope::parse(&made.header[HEAD_LEN..]).unwrap();
    let bucket = ShredKey::generate().unwrap();
    let wrapped = envelope.shred_wrap(&made.head, 7, &bucket).unwrap();
    drop(bucket);
    assert_eq!(wrapped.open(&made.head, &made.identity).err(), Some(SealError::ShredWrapped));
    let another = ShredKey::generate().unwrap();
    assert_eq!(wrapped.shred_unwrap(&made.head, &another).err(), Some(SealError::Damaged));
    // Neither the stanzas nor the recipient's key id are in it any more.
    let bytes = wrapped.to_bytes();
    let key_id = made.identity.to_recipient().key_id();
    assert!(!bytes.windows(8).any(|window| window == key_id));
}

#[test]
fn an_x25519_recipient_of_small_order_is_refused() {
    let made = small();
    let text =
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("sealdrop").unwrap(), &[&[0, 0x20][..], &[0; 32]].concat());
    let to = [text.unwrap().parse::<Recipient>().unwrap()];
    assert_eq!(Envelope::wrap(&made.head, &made.key, &to).err(), Some(SealError::Malformed("recipient")));
}

#[test]
fn an_identity_file_may_hold_comments_and_several_identities() {
    let [a, b] = [Kem::P256, Kem::X25519].map(|kem| Identity::generate(kem).unwrap());
    let text = format!("# a comment\n\n{}\r\n  {}\n", *a.to_text(), *b.to_text());
    let read = Identity::parse_file(&text).unwrap();
    assert!(read[0].to_recipient() == a.to_recipient() && read[1].to_recipient() == b.to_recipient());
    assert_eq!(Identity::parse_file("# nothing\n").err(), Some(KeyTextError::Empty));
    assert_eq!(Identity::parse_file("\nhello\n").err(), Some(KeyTextError::Line(2)));
    let public = a.to_recipient().to_string();
    assert_eq!(Identity::parse_file(&public).err(), Some(KeyTextError::RecipientForIdentity));
    assert_eq!(a.to_text().parse::<Recipient>(), Err(KeyTextError::IdentityForRecipient));
    let again = Identity::from_bytes(&a.expose()[..]).unwrap();
    assert_eq!(*again.to_text(), *a.to_text());
    assert_eq!(&again.to_recipient().fingerprint()[..16], crate::names::hex(&a.to_recipient().key_id()));
}

#[test]
fn a_journal_comes_back_and_is_sealed_anew_each_time() {
    let mut entropy = Script::new("journal test");
    let (journal, key) = (journal(&mut entropy, Keeps::default()), JournalKey::generate().unwrap());
    let drop = DropId([3; 16]);
    let first = journal.seal(drop, &key).unwrap();
    assert_ne!(first, journal.seal(drop, &key).unwrap());
    let back = Journal::open(drop, &key, &first).unwrap();
    assert_eq!((back.path, back.records, back.tail), (journal.path.clone(), journal.records, journal.tail.clone()));
    assert_eq!(back.file_key.expose(), journal.file_key.expose());
    assert_eq!((back.midstate.hashed, back.gens, back.closed), (journal.midstate.hashed, journal.gens.clone(), None));
    assert_eq!((back.mtime, back.opened_at, back.updated_at), (journal.mtime, journal.opened_at, journal.updated_at));
    assert!(!first.windows(20).any(|window| window == &journal.tail[..20]), "the tail is not in clear");
    let closed = Journal { closed: Some((CHUNK as u64 + 100, [5; 32])), ..journal.clone() };
    let sealed = closed.seal(drop, &key).unwrap();
    assert_eq!(Journal::open(drop, &key, &sealed).unwrap().closed, closed.closed);
    let wrong = Journal { closed: Some((7, [5; 32])), ..journal };
    assert_eq!(wrong.seal(drop, &key).err(), Some(SealError::Limit("a journal")));
}

#[test]
#[cfg_attr(feature = "fips", ignore = "the module gives no midstate away")]
fn a_digest_continues_from_its_midstate_and_from_the_records() {
    let made = made("midstate", Kem::P256, CHUNK + 77);
    let mut expected = Midstate::new();
    expected.update(&made.plain);
    let part = [&made.head.to_bytes()[..], &[0; ENVELOPE_LEN], &made.records[0]].concat();
    let none = Keeps::default();
    let mut again = rehash(&Bytes(&part), &made.head, &made.key, &[], 1, none).unwrap();
    again.update(&made.plain[CHUNK..]);
    assert!(again.save() == expected.save());
    let loaded = Midstate::load(&expected.save(), none).unwrap();
    assert_eq!(loaded.finish(), expected.finish());
    assert!(rehash(&Bytes(&part), &made.head, &made.key, &[(0, 1)], 1, none).is_err(), "a stale record is refused");
}

#[test]
#[cfg_attr(feature = "fips", ignore = "the module gives no midstate away")]
fn sums_continue_beside_the_digest() {
    let made = made("sums", Kem::P256, CHUNK + 77);
    let both = Keeps { md5: true, sha1: true };
    let mut midstate = Midstate::keeping(both);
    midstate.update(&made.plain[..1000]);
    let mut loaded = Midstate::load(&midstate.save(), both).unwrap();
    loaded.update(&made.plain[1000..]);
    let (sha256, sums) = loaded.finish();
    assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&made.plain)));
    assert_eq!(sums.md5, Some(md5::Md5::digest(&made.plain).into()));
    assert_eq!(sums.sha1, Some(sha1::Sha1::digest(&made.plain).into()));
    let part = [&made.head.to_bytes()[..], &[0; ENVELOPE_LEN], &made.records[0]].concat();
    let mut again = rehash(&Bytes(&part), &made.head, &made.key, &[], 1, both).unwrap();
    again.update(&made.plain[CHUNK..]);
    assert_eq!(again.finish(), (sha256, sums));
    let mut alone = Midstate::new();
    alone.update(&made.plain[..1000]);
    assert!(Midstate::load(&alone.save(), both).is_none(), "what a journal lacks is made anew");
    assert_eq!(Midstate::load(&midstate.save(), Keeps::default()).unwrap().finish().1, Sums::default());
}

/// Found by the fuzzer: a count of blocks whose bits do not fit 64 of them made the hash panic when it finished.
#[test]
#[cfg_attr(feature = "fips", ignore = "the module gives no midstate away")]
fn a_midstate_that_counts_other_bytes_than_its_journal_is_made_anew() {
    let both = Keeps { md5: true, sha1: true };
    let mut midstate = Midstate::keeping(both);
    midstate.update(&[7; 1000]);
    let saved = midstate.save();
    assert!(Midstate::load(&saved, both).is_some());
    for hashed in [0, 999, 1001, u64::MAX] {
        assert!(Midstate::load(&Saved { hashed, ..saved.clone() }, both).is_none(), "{hashed}");
    }
    let endless = |state: &[u8]| {
        let mut state = state.to_vec();
        let at = state.len() - 72;
        state[at..at + 8].copy_from_slice(&(u64::MAX / 64).to_le_bytes());
        state
    };
    let hashed = (u64::MAX / 64) * 64 + 1000 % 64;
    for forged in [
        Saved { sha256: endless(&saved.sha256), hashed, ..saved.clone() },
        Saved { md5: endless(&saved.md5), ..saved.clone() },
        Saved { sha1: endless(&saved.sha1), ..saved },
    ] {
        assert!(Midstate::load(&forged, both).is_none());
    }
}

#[test]
fn a_locked_secret_opens_with_its_own_label_and_context_only() {
    let root = [9; 32];
    let locked = lock(&root, "identity", b"radiology", b"secret").unwrap();
    assert_eq!(&unlock(&root, "identity", b"radiology", &locked).unwrap()[..], b"secret");
    assert_eq!(unlock(&root, "identity", b"lab", &locked).err(), Some(SealError::Damaged));
    assert_eq!(unlock(&root, "shred", b"radiology", &locked).err(), Some(SealError::Damaged));
    assert_eq!(unlock(&root, "identity", b"radiology", &locked[..20]).err(), Some(SealError::Damaged));
}

#[test]
fn a_part_file_never_opens_as_a_finished_one() {
    let made = made("part", Kem::P256, CHUNK + 77);
    let part = [&made.head.to_bytes()[..], &[0; ENVELOPE_LEN], &made.records[0]].concat();
    let error = open_whole(&part, &made.identity).unwrap_err();
    assert!(matches!(error, ReadError::Seal(SealError::Unfinished)));
    let error = Reader::open(Bytes(&part), part.len() as u64, &made.key).err().unwrap();
    assert!(matches!(error, ReadError::Seal(SealError::Length)));
}

#[test]
fn lengths_beyond_the_format_do_not_overflow() {
    for size in [SIZE_MAX, SIZE_MAX + 1, u64::MAX] {
        let footer = Footer { size, trailer_len: u32::MAX };
        assert_eq!(footer.check_len(1000), Err(SealError::Length));
    }
    assert_eq!(body_len(SIZE_MAX), (1 << 30) * RECORD_LEN as u64 - 1);
    assert_eq!(record_offset(u64::MAX), u64::MAX);
}

/// Sizes near the places where something changes.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![0..4usize, CHUNK - 2..CHUNK + 3, 2 * CHUNK - 2..2 * CHUNK + 3, 0..3 * CHUNK]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_size_pushed_in_any_pieces_comes_back_in_any_pieces(
        size in sizes(), piece in 1..100_000usize, offset in 0..3 * CHUNK, length in 0..100_000usize,
    ) {
        let identity = Identity::generate(Kem::X25519).unwrap();
        let key = FileKey::generate().unwrap();
        let head = Head::new(DropId([1; 16]), Mode::EndToEnd, &key).unwrap();
        let envelope = Envelope::wrap(&head, &key, &[identity.to_recipient()]).unwrap();
        let content = plain(size);
        let mut bytes = Vec::new();
        let mut sealer = Sealer::begin(head, key.clone(), &envelope, &mut bytes);
        for piece in content.chunks(piece) {
            sealer.push(piece, &mut bytes).unwrap();
        }
        let trailer = sealer.finish(Trailer { name: b"x".to_vec(), ..Trailer::default() }, &mut bytes).unwrap();
        prop_assert_eq!(open_whole(&bytes, &identity).unwrap(), content.clone());

        let footer = Footer::parse(bytes.last_chunk().unwrap()).unwrap();
        footer.check_len(bytes.len() as u64).unwrap();
        prop_assert!(footer.check_len(bytes.len() as u64 + 1).is_err());
        let mut reader = Reader::open(Bytes(&bytes), bytes.len() as u64, &key).unwrap();
        prop_assert_eq!(reader.trailer(), &trailer);
        let mut buffer = vec![0; length];
        let read = reader.read_at(offset as u64, &mut buffer).unwrap();
        let there = content.get(offset..).unwrap_or_default();
        prop_assert_eq!(&buffer[..read], &there[..length.min(there.len())]);
    }

    #[test]
    fn any_change_after_the_envelope_of_a_larger_file_is_refused(at: proptest::sample::Index, to: u8) {
        let made = made("larger", Kem::X25519, CHUNK + 300);
        let mut bytes = made.bytes();
        // What is before it is tried byte by byte above: the envelope's revision is free to change.
        let at = HEADER_LEN + at.index(bytes.len() - HEADER_LEN);
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(open_whole(&bytes, &made.identity).is_err());
    }

    #[test]
    fn a_trailer_comes_back(
        name: Vec<u8>, mtime: Option<u64>, sender: String, recipients: Vec<String>, size in 0..SIZE_MAX,
        sha256: [u8; 32], md5: Option<[u8; 16]>, sha1: Option<[u8; 20]>, times: (u64, u64), server: String, gens in proptest::collection::btree_map(0..9u64, 1..9u32, 0..4),
    ) {
        let made = small();
        let recipients = recipients.into_iter().filter(|r| !r.is_empty()).collect();
        let size = size.max(9 * CHUNK as u64);
        let (opened_at, sealed_at) = times;
        let (gens, sums) = (gens.into_iter().collect(), Sums { md5, sha1 });
        let trailer = Trailer { name, mtime, sender, recipients, size, sha256, opened_at, sealed_at, server, gens, sums };
        let bytes = trailer.seal(&made.head, &made.key).unwrap();
        let (sealed, footer) = bytes.split_last_chunk::<FOOTER_LEN>().unwrap();
        prop_assert_eq!(Trailer::open(&made.head, &made.key, footer, sealed).unwrap(), trailer);
    }

    #[test]
    fn parsers_take_any_bytes(bytes: Vec<u8>, text: String) {
        let _ = Head::parse(&bytes);
        let _ = Envelope::parse(&bytes);
        let _ = Trailer::from_fields(&bytes, 0);
        let _ = Journal::from_fields(&bytes);
        let _ = text.parse::<Recipient>();
        let _ = Identity::parse_file(&text);
        let _ = format!("ssh-ed25519 {text}").parse::<Recipient>();
        let _ = SshIdentity::parse(&text);
        let _ = Passphrase::chosen(&text);
        let mut area = bytes.clone();
        area.resize(ENVELOPE_LEN, 0);
        if let Ok(envelope) = Envelope::parse(&area) {
            prop_assert_eq!(envelope.to_bytes(), area);
        }
    }

    #[test]
    fn any_recipient_comes_back_from_its_text(seed: u64, kem in proptest::sample::select(Kem::ALL.to_vec())) {
        let identity = Identity::generate_with(&mut Script::new(&seed.to_string()), kem).unwrap();
        let recipient = identity.to_recipient();
        prop_assert_eq!(recipient.to_string().parse::<Recipient>().unwrap(), recipient);
        prop_assert_eq!(Identity::parse(&identity.to_text()).unwrap().to_recipient(), identity.to_recipient());
    }

    #[test]
    fn any_ssh_key_comes_back_from_its_text_and_opens_what_is_sealed_to_it(seed: [u8; 32], comment in "[ -~]{0,20}") {
        let (identity, file) = kinds::ssh_key(seed);
        let recipient = identity.to_recipient();
        prop_assert_eq!(format!("{recipient} {comment}").parse::<Recipient>().unwrap(), recipient.clone());
        let file = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{file}\n-----END OPENSSH PRIVATE KEY-----\n");
        let Ok(SshFile::Open(read)) = SshIdentity::parse(&file) else { panic!("not read") };
        prop_assert_eq!(read.to_recipient(), recipient.clone());
        let made = small();
        let envelope = Envelope::wrap(&made.head, &made.key, &[made.identity.to_recipient(), recipient]).unwrap();
        let envelope = Envelope::parse(&envelope.to_bytes()).unwrap();
        prop_assert!(envelope.open_ssh(&made.head, &read).is_ok());
    }

    #[test]
    fn any_stanza_of_a_known_kind_is_taken_or_refused_and_never_opens(kind in 0..6u16, key_id: [u8; 8], body in proptest::collection::vec(any::<u8>(), 0..160)) {
        let made = small();
        let body = if kind == 2 && body.len() > 4 { [&[2, 0, 1, 0x86, 0xa0], &body[4..]].concat() } else { body };
        let mut area = [&(14 + body.len() as u32).to_be_bytes()[..], &[0; 4], &kind.to_be_bytes(), &key_id].concat();
        area.extend_from_slice(&(body.len() as u32).to_be_bytes());
        area.extend_from_slice(&body);
        area.resize(ENVELOPE_LEN, 0);
        if let Ok(envelope) = Envelope::parse(&area) {
            prop_assert_eq!(envelope.to_bytes(), area);
            prop_assert!(envelope.open(&made.head, &made.identity).is_err());
            prop_assert!(envelope.open_ssh(&made.head, &kinds::ssh_key([7; 32]).0).is_err());
            prop_assert_eq!(envelope.stanza_ids().len(), 1);
        }
    }

    #[test]
    fn aws_lc_and_aes_gcm_write_the_same_bytes_and_refuse_the_same(
        key: [u8; 32],
        nonce: [u8; 12],
        aad: Vec<u8>,
        data: Vec<u8>,
        at: prop::sample::Index,
        bit in 0..8,
    ) {
        let (aws_lc, reference) = (AwsLc::new(&key).unwrap(), Reference::new(&key).unwrap());
        let (mut a, mut b) = (data.clone(), data.clone());
        let tag = aws_lc.seal_under(&nonce, &aad, &mut a).unwrap();
        a.extend(tag);
        let tag = reference.seal_under(&nonce, &aad, &mut b).unwrap();
        b.extend(tag);
        prop_assert_eq!(&a, &b);
        let sealed = a.clone();
        prop_assert_eq!(aws_lc.open(&nonce, &aad, &mut b).unwrap(), &data[..]);
        prop_assert_eq!(reference.open(&nonce, &aad, &mut a).unwrap(), &data[..]);
        // Any bit of ciphertext, tag or nonce, more associated data, a cut: each is refused by both, in the same words.
        let both = |nonce: &[u8; 12], aad: &[u8], sealed: &[u8]| {
            let (mut a, mut b) = (sealed.to_vec(), sealed.to_vec());
            (aws_lc.open(nonce, aad, &mut a).err(), reference.open(nonce, aad, &mut b).err())
        };
        let refused = (Some(SealError::Damaged), Some(SealError::Damaged));
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= 1u8 << bit;
        prop_assert_eq!(both(&nonce, &aad, &changed), refused);
        prop_assert_eq!(both(&nonce, &aad, &sealed[..at.index(sealed.len())]), refused);
        prop_assert_eq!(both(&nonce, &[&aad[..], &[0]].concat(), &sealed), refused);
        let mut other = nonce;
        other[at.index(12)] ^= 1u8 << bit;
        prop_assert_eq!(both(&other, &aad, &sealed), refused);
    }
}

#[test]
fn aws_lc_and_aes_gcm_seal_whole_records_alike() {
    let made = small();
    for (index, last, size) in [(0, false, CHUNK), (5000, false, CHUNK), (7, true, CHUNK - 1), (8, true, 0)] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let script = || Script::new("the same nonce");
        Records::<AwsLc>::with_backend(&made.head, &made.key)
            .seal_with(&mut script(), index, 0, last, &plain(size), &mut a)
            .unwrap();
        Records::<Reference>::with_backend(&made.head, &made.key)
            .seal_with(&mut script(), index, 0, last, &plain(size), &mut b)
            .unwrap();
        assert!(a == b && a.len() == size + RECORD_OVERHEAD);
    }
}

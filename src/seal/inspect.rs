//! What can be seen of a sealed file without any key: whether its sender sealed it, to whom, and whether it is whole.
//! Judged as its bytes come, so that what is not wanted is refused with its first ones (docs/decisions/0006).

use super::{Envelope, FOOTER_LEN, Footer, HEAD_LEN, HEADER_LEN, Head, Mode, Recipient, SealError};

/// Why a file is not one that its sender sealed to just these recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it is not a sealed file")]
    NotSealed,
    #[error("it is a sealed file of another version")]
    Version,
    #[error("it was sealed by a server, not by its sender")]
    NotEndToEnd,
    #[error("its head or envelope breaks a rule of the format")]
    Malformed,
    #[error("it has no stanza for one of the recipients")]
    Missing,
    #[error("it has a stanza for somebody else")]
    Unknown,
}

impl Unfit {
    pub const ALL: [Self; 6] =
        [Self::NotSealed, Self::Version, Self::NotEndToEnd, Self::Malformed, Self::Missing, Self::Unknown];

    /// What its sender is told.
    pub fn say(self) -> &'static str {
        match self {
            Self::NotSealed => "this folder takes only files that you sealed before, with `sealdrop seal`",
            Self::Version => "this file is sealed in another format than this server knows",
            Self::NotEndToEnd => "this file was sealed by a server: seal the original with `sealdrop seal`",
            Self::Malformed => "this sealed file is damaged: seal it again",
            Self::Missing => "this file is not sealed to every recipient of this folder",
            Self::Unknown => "this file is sealed to others than the recipients of this folder, or with a passphrase",
        }
    }
}

/// How much of a file says to whom it is sealed.
pub const SAYS_TO_WHOM: usize = HEADER_LEN;

/// Judges the first bytes of a file, as many as there are. What is good so far may yet turn out not to be, until there are
/// [`SAYS_TO_WHOM`] of them.
pub fn beginning(bytes: &[u8], recipients: &[Recipient]) -> Result<(), Unfit> {
    if !Head::may_begin(bytes) {
        return Err(Unfit::NotSealed);
    }
    if bytes.len() < HEAD_LEN {
        return Ok(());
    }
    let head = Head::parse(bytes).map_err(unfit)?;
    if head.mode() != Mode::EndToEnd {
        return Err(Unfit::NotEndToEnd);
    }
    let Some(area) = bytes.get(HEAD_LEN..HEADER_LEN) else { return Ok(()) };
    let envelope = Envelope::parse(area).map_err(unfit)?;
    if envelope.bucket().is_some() {
        // It was copied from a server's disk.
        return Err(Unfit::NotEndToEnd);
    }
    let wanted: Vec<_> = recipients.iter().map(Recipient::stanza_id).collect();
    let there = envelope.stanza_ids();
    if wanted.iter().any(|id| !there.contains(id)) {
        return Err(Unfit::Missing);
    }
    if there.iter().any(|id| !wanted.contains(id)) { Err(Unfit::Unknown) } else { Ok(()) }
}

/// Whether a file of `length` bytes that ends in these is whole: the footer, and the length equation. `Length`: there is no
/// footer where its end is, or it belongs to another length.
pub fn ending(last: &[u8; FOOTER_LEN], length: u64) -> Result<(), SealError> {
    Footer::parse(last)?.check_len(length)
}

fn unfit(error: SealError) -> Unfit {
    match error {
        SealError::NotSealed => Unfit::NotSealed,
        SealError::Version => Unfit::Version,
        _ => Unfit::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileKey, Identity, Kem, Sealer, Trailer};
    use super::*;
    use crate::names::DropId;

    fn recipient(kem: Kem) -> Recipient {
        Identity::generate(kem).unwrap().to_recipient()
    }

    fn sealed(mode: Mode, to: &[Recipient]) -> Vec<u8> {
        let key = FileKey::generate().unwrap();
        let head = Head::new(DropId([1; 16]), mode, &key).unwrap();
        let envelope = Envelope::wrap(&head, &key, to).unwrap();
        let mut out = Vec::new();
        let mut sealer = Sealer::begin(head, key, &envelope, &mut out);
        sealer.push(&[7; 100_000], &mut out).unwrap();
        sealer.finish(Trailer::default(), &mut out).unwrap();
        out
    }

    fn last(file: &[u8]) -> [u8; FOOTER_LEN] {
        *file.last_chunk().unwrap()
    }

    #[test]
    fn what_its_sender_sealed_to_just_these_is_good_from_its_first_byte_to_its_last() {
        let to = [recipient(Kem::P256), recipient(Kem::X25519)];
        let file = sealed(Mode::EndToEnd, &to);
        for there in [0, 1, 7, 8, 95, 96, 4000, HEADER_LEN - 1, HEADER_LEN, file.len()] {
            assert_eq!(beginning(&file[..there], &to), Ok(()), "{there} bytes");
        }
        assert_eq!(beginning(&file, &[to[1].clone(), to[0].clone()]), Ok(()), "in any order");
        assert_eq!(ending(&last(&file), file.len() as u64), Ok(()));
    }

    #[test]
    fn anything_else_is_told_apart_as_soon_as_it_can_be() {
        let to = [recipient(Kem::P256), recipient(Kem::X25519)];
        let file = sealed(Mode::EndToEnd, &to);
        assert_eq!(beginning(b"P", &to), Err(Unfit::NotSealed));
        assert_eq!(beginning(b"SEALDRX", &to), Err(Unfit::NotSealed));
        assert_eq!(beginning(&[&file[..7], &[2; 89]].concat(), &to), Err(Unfit::Version));
        assert_eq!(beginning(&sealed(Mode::Sealed, &to)[..HEAD_LEN], &to), Err(Unfit::NotEndToEnd));
        assert_eq!(beginning(&file[..HEADER_LEN], &[&to[..], &[recipient(Kem::P256)]].concat()), Err(Unfit::Missing));
        assert_eq!(beginning(&file[..HEADER_LEN], &to[..1]), Err(Unfit::Unknown));
        assert_eq!(beginning(&file[..HEADER_LEN - 1], &to[..1]), Ok(()), "not seen yet");
        let mut bent = file.clone();
        bent[HEADER_LEN - 1] = 1;
        assert_eq!(beginning(&bent, &to), Err(Unfit::Malformed));
        // Not for a public key, as one for a passphrase, whatever key id it claims.
        bent = sealed(Mode::EndToEnd, &[to[0].clone(), to[1].clone(), to[0].clone()]);
        bent[HEAD_LEN + 8 + 1] = 2;
        assert_eq!(beginning(&bent, &to), Err(Unfit::Unknown));
    }

    #[test]
    fn a_file_that_was_cut_or_made_longer_is_not_whole() {
        let file = sealed(Mode::EndToEnd, &[recipient(Kem::X25519)]);
        for len in [FOOTER_LEN, HEADER_LEN, file.len() - 1, file.len() - FOOTER_LEN] {
            let cut = &file[..len];
            assert_eq!(ending(&last(cut), len as u64), Err(SealError::Length), "{len} bytes");
        }
        let longer = [&file[..], &[0]].concat();
        assert_eq!(ending(&last(&longer), longer.len() as u64), Err(SealError::Length));
        assert_eq!(ending(&last(&file), file.len() as u64 + 1), Err(SealError::Length));
        let mut bent = last(&file);
        bent[12] = 1;
        assert_eq!(ending(&bent, file.len() as u64), Err(SealError::Malformed("footer")));
    }
}

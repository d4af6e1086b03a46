//! The primitives that are linked, held against other people's vectors: Wycheproof's attacks, and the HPKE suites of
//! RFC 9180 that stanzas are made with. What we build from them has vectors of its own (`vectors.rs`).

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use hmac::{Hmac, KeyInit, Mac};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::{DhP256HkdfSha256, X25519HkdfSha256};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use russh::keys::signature::Verifier;
use russh::keys::ssh_key::public::{Ed25519PublicKey, KeyData};
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, Signature};
use sealdrop::names::hex;
use sealdrop::seal::{Aead, AwsLc, Bulk, DhP256, GivenNonce, Reference};
use sha2::Sha256;
use shake::{ExtendableOutput, Shake128, Update, XofReader};
use wycheproof::{TestResult, aead, ecdh, ecdsa, eddsa, hkdf, mac, pbkdf2, xdh};

/// Fails unless `passed` is what the vector asks for; counts those that had to pass and those that had to fail.
#[track_caller]
fn judge(counts: &mut (u32, u32), what: &str, result: TestResult, passed: bool) {
    match result {
        TestResult::Valid => counts.0 += 1,
        TestResult::Invalid => counts.1 += 1,
        TestResult::Acceptable => return,
    }
    assert_eq!(passed, result == TestResult::Valid, "{what}");
}

fn aes_gcm(open: impl Fn(&[u8; 32], &[u8; 12], &[u8], &mut [u8]) -> Option<Vec<u8>>, name: &str) {
    let mut counts = (0, 0);
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    // The one shape that we use: keys of 256 bits, nonces of 96, tags of 128.
    let groups = set.test_groups.iter().filter(|g| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128));
    for test in groups.flat_map(|group| &group.tests) {
        let (key, nonce) = (test.key[..].try_into().unwrap(), test.nonce[..].try_into().unwrap());
        let mut sealed = [&test.ct[..], &test.tag[..]].concat();
        let opened = open(&key, &nonce, &test.aad, &mut sealed);
        let right = opened.is_some_and(|plain| plain == test.pt[..]);
        judge(&mut counts, &format!("{name} {}: {}", test.tc_id, test.comment), test.result, right);
    }
    assert!(counts.0 > 20 && counts.1 > 10, "{counts:?}");
}

fn opens<A: Aead>(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Option<Vec<u8>> {
    A::new(key).unwrap().open(nonce, aad, sealed).ok().map(|plain| plain.to_vec())
}

/// Opens, and if it opens also seals again: the same bytes must come out.
fn opens_and_seals<A: GivenNonce>(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &mut [u8]) -> Option<Vec<u8>> {
    let given = sealed.to_vec();
    let mut plain = opens::<A>(key, nonce, aad, sealed)?;
    let opened = plain.clone();
    let tag = A::new(key).unwrap().seal_under(nonce, aad, &mut plain).unwrap();
    assert!([&plain[..], &tag].concat() == given);
    Some(opened)
}

#[test]
fn both_ciphers_do_as_wycheproof_says() {
    aes_gcm(opens_and_seals::<AwsLc>, "AWS-LC");
    aes_gcm(opens_and_seals::<Reference>, "aes-gcm");
    // In a build with `fips` this is the module, whose nonces are its own.
    aes_gcm(opens::<Bulk>, "of records");
}

#[test]
fn derivation_does_as_wycheproof_says() {
    let mut counts = (0, 0);
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let done = ::hkdf::Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm).is_ok();
        judge(&mut counts, &format!("hkdf {}", test.tc_id), test.result, done && okm == test.okm[..]);
    }
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    for group in set.test_groups.iter().filter(|group| group.tag_size == 256) {
        for test in &group.tests {
            let mut hmac = Hmac::<Sha256>::new_from_slice(&test.key).unwrap();
            Mac::update(&mut hmac, &test.msg);
            let fits = hmac.verify_slice(&test.tag).is_ok();
            judge(&mut counts, &format!("hmac {}", test.tc_id), test.result, fits);
        }
    }
    let set = pbkdf2::TestSet::load(pbkdf2::TestName::Pbkdf2HmacSha512).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Some(rounds) = std::num::NonZeroU32::new(test.iteration_count as u32) else { continue };
        let mut out = vec![0; test.dk_len];
        aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA512, rounds, &test.salt, &test.password, &mut out);
        judge(&mut counts, &format!("pbkdf2 {}", test.tc_id), test.result, out == test.dk[..]);
    }
    assert!(counts.0 > 150 && counts.1 > 50, "{counts:?}");
}

#[test]
fn key_agreement_does_as_wycheproof_says() {
    let mut counts = (0, 0);
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // HPKE takes points that are not compressed, as RFC 9180 says: others are vectors of `recipient` texts.
        if test.public_key.len() != 65 {
            continue;
        }
        let private = test.private_key.iter().rev().copied().chain([0; 32]).take(32).collect::<Vec<u8>>();
        let private: Vec<u8> = private.into_iter().rev().collect();
        let secret = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(&test.public_key).ok().and_then(|_| {
            let public = p256::PublicKey::from_sec1_bytes(&test.public_key).ok()?;
            let private = p256::SecretKey::from_slice(&private).ok()?;
            Some(p256::ecdh::diffie_hellman(private.to_nonzero_scalar(), public.as_affine()))
        });
        let right = secret.is_some_and(|secret| secret.raw_secret_bytes()[..] == test.shared_secret[..]);
        judge(&mut counts, &format!("p256 {}: {}", test.tc_id, test.comment), test.result, right);
        let public = UnparsedPublicKey::new(&ECDH_P256, &test.public_key);
        let right = PrivateKey::from_private_key(&ECDH_P256, &private).is_ok_and(|private| {
            agree(&private, public, false, |secret| Ok(secret == &test.shared_secret[..])).unwrap_or_else(|no| no)
        });
        judge(&mut counts, &format!("AWS-LC's p256 {}: {}", test.tc_id, test.comment), test.result, right);
    }
    assert!(counts.0 > 200 && counts.1 > 10, "{counts:?}");
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let mut agreed = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let point = curve25519_dalek::MontgomeryPoint(test.public_key[..].try_into().unwrap());
        let shared = point.mul_clamped(test.private_key[..].try_into().unwrap());
        assert_eq!(shared.as_bytes()[..], test.shared_secret[..], "x25519 {}: {}", test.tc_id, test.comment);
        agreed += 1;
    }
    assert!(agreed > 400);
}

#[test]
fn an_x25519_secret_of_zeros_is_no_stanza_and_no_recipient() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let tests = set.test_groups.iter().flat_map(|group| &group.tests);
    let mut refused = 0;
    for test in tests.filter(|test| test.shared_secret.iter().all(|byte| *byte == 0)) {
        type Key = <X25519HkdfSha256 as Kem>::PublicKey;
        let Ok(public) = Key::from_bytes(&test.public_key) else { continue };
        assert!(
            hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &public, b"", b"", b"")
                .is_err(),
            "{}: {}",
            test.tc_id,
            test.comment
        );
        refused += 1;
    }
    assert!(refused > 5);
}

#[test]
fn signatures_of_logins_and_receipts_do_as_wycheproof_says() {
    let mut counts = (0, 0);
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    for group in &set.test_groups {
        let key = KeyData::Ed25519(Ed25519PublicKey(group.key.pk[..].try_into().unwrap()));
        for test in &group.tests {
            let signature = Signature::new(Algorithm::Ed25519, &test.sig[..]);
            let verified = signature.is_ok_and(|signature| key.verify(&test.msg, &signature).is_ok());
            judge(&mut counts, &format!("ed25519 {}: {}", test.tc_id, test.comment), test.result, verified);
        }
    }
    assert!(counts.0 > 50 && counts.1 > 30, "{counts:?}");
    let mut counts = (0, 0);
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in &set.test_groups {
        let point = p256::PublicKey::from_sec1_bytes(&group.key.key).unwrap();
        let key = KeyData::Ecdsa(
            russh::keys::ssh_key::public::EcdsaPublicKey::from_sec1_bytes(&point.to_sec1_bytes()).unwrap(),
        );
        for test in &group.tests {
            // SSH carries r and s as numbers, so what has another length than two of them cannot be said in it.
            let Some((r, s)) = (test.sig.len() == 64).then(|| test.sig.split_at(32)) else { continue };
            let blob = [number(r), number(s)].concat();
            let signature = Signature::new(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }, blob);
            let verified = signature.is_ok_and(|signature| key.verify(&test.msg, &signature).is_ok());
            judge(&mut counts, &format!("ecdsa {}: {}", test.tc_id, test.comment), test.result, verified);
        }
    }
    assert!(counts.0 > 100 && counts.1 > 20, "{counts:?}");
}

/// An integer as SSH writes it (RFC 4251 §5, mpint).
fn number(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let mut number = bytes[first..].to_vec();
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        number.insert(0, 0);
    }
    [&(number.len() as u32).to_be_bytes()[..], &number].concat()
}

/// A suite of RFC 9180's test vectors in base mode with HKDF-SHA256 and AES-256-GCM. The thousands of ciphertexts and
/// secrets are accumulated in a SHAKE128, their inputs drawn from one, the way in which other libraries shorten the file of
/// the RFC.
struct Suite {
    ikm_sender: &'static str,
    ikm_recipient: &'static str,
    private: &'static str,
    public: &'static str,
    encapsulated: &'static str,
    ciphertexts: &'static str,
    exports: &'static str,
}

const INFO: &[u8] = b"Ode on a Grecian Urn";

const P256: Suite = Suite {
    ikm_sender: "a90d3417c3da9cb6c6ae19b4b5dd6cc9529a4cc24efb7ae0ace1f31887a8cd6c",
    ikm_recipient: "a0ce15d49e28bd47a18a97e147582d814b08cbe00109fed5ec27d1b4e9f6f5e3",
    private: "317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2",
    public: "04abc7e49a4c6b3566d77d0304addc6ed0e98512ffccf505e6a8e3eb25c685136f853148544876de76c0f2ef99cdc3a05ccf5ded\
             7860c7c021238f9e2073d2356c",
    encapsulated: "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3bf0\
                   1da5cc4c39ff5370d331a4f1f7d5a4e0",
    ciphertexts: "8d3263541fc1695b6e88ff3a1208577c",
    exports: "038af0baa5ce3c4c5f371c3823b15217",
};

const X25519: Suite = Suite {
    ikm_sender: "2cd7c601cefb3d42a62b04b7a9041494c06c7843818e0ce28a8f704ae7ab20f9",
    ikm_recipient: "dac33b0e9db1b59dbbea58d59a14e7b5896e9bdf98fad6891e99d1686492b9ee",
    private: "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
    public: "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c",
    encapsulated: "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
    ciphertexts: "1702e73e1e71705faa8241022af1deea",
    exports: "5cb678bf1c52afbd9afb58b8f7c1ced3",
};

impl Suite {
    fn holds<K: Kem>(&self) {
        // X25519's are given clamped there, or not: the public key tells that they are the same.
        let (private, public) = K::derive_keypair(&bytes(self.ikm_recipient));
        assert_eq!(hex(&public.to_bytes()), self.public);
        let given = K::PrivateKey::from_bytes(&bytes(self.private)).unwrap();
        assert_eq!(hex(&K::sk_to_pk(&given).to_bytes()), self.public);
        let mut drawn = Given(bytes(self.ikm_sender));
        let sender =
            hpke::setup_sender_with_rng::<AesGcm256, HkdfSha256, K>(&OpModeS::Base, &public, INFO, &mut drawn).unwrap();
        let (encapsulated, mut sender) = sender;
        assert_eq!(hex(&encapsulated.to_bytes()), self.encapsulated);
        let mut recipient =
            hpke::setup_receiver::<AesGcm256, HkdfSha256, K>(&OpModeR::Base, &private, &encapsulated, INFO).unwrap();
        let (mut source, mut sink) = (Shake128::default().finalize_xof(), Shake128::default());
        for _ in 0..1000 {
            let (aad, plain) = (draw(&mut source), draw(&mut source));
            let sealed = sender.seal(&plain, &aad).unwrap();
            sink.update(&sealed);
            assert_eq!(recipient.open(&sealed, &aad).unwrap(), plain);
        }
        assert_eq!(sum(sink), self.ciphertexts);
        let (mut source, mut sink) = (Shake128::default().finalize_xof(), Shake128::default());
        for length in 0..1000 {
            let context = draw(&mut source);
            let mut secret = vec![0; length];
            recipient.export(&context, &mut secret).unwrap();
            sink.update(&secret);
        }
        assert_eq!(sum(sink), self.exports);
    }
}

#[test]
fn hpke_does_as_rfc_9180_says() {
    P256.holds::<DhP256HkdfSha256>();
    P256.holds::<DhP256>();
    X25519.holds::<X25519HkdfSha256>();
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn draw(source: &mut impl XofReader) -> Vec<u8> {
    let mut length = [0];
    source.read(&mut length);
    let mut drawn = vec![0; length[0].into()];
    source.read(&mut drawn);
    drawn
}

fn sum(sink: Shake128) -> String {
    let mut sum = [0; 16];
    sink.finalize_xof().read(&mut sum);
    hex(&sum)
}

/// A generator that gives these bytes once.
struct Given(Vec<u8>);

impl hpke::rand_core::TryRng for Given {
    type Error = std::convert::Infallible;

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.copy_from_slice(&self.0);
        Ok(())
    }

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("a key is drawn in one piece")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("a key is drawn in one piece")
    }
}

impl hpke::rand_core::TryCryptoRng for Given {}

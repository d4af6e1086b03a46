//! What stock ssh-keygen made (tests/certificates/make), judged; and that no bytes whatever pass or panic.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// Within the certificates' year.
const NOW: Time = Time(1_795_308_143_000);

fn made(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)).unwrap()
}

/// The second word of a `.pub` file, decoded.
fn blob(name: &str) -> Vec<u8> {
    let text = String::from_utf8(made(name)).unwrap();
    match name.ends_with("-cert.pub") {
        true => ssh_key::Certificate::from_openssh(&text).unwrap().to_bytes().unwrap(),
        false => text.parse::<ssh_key::PublicKey>().unwrap().to_bytes().unwrap(),
    }
}

fn authority(name: &str) -> PublicKey {
    let blob = blob(name);
    PublicKey {
        algorithm: String::new(),
        fingerprint: fingerprint(&blob),
        blob,
        comment: name.to_owned(),
        expires: None,
    }
}

fn authorities() -> Vec<PublicKey> {
    vec![authority("ca.pub"), authority("rsa-ca.pub")]
}

fn revoked(name: &str) -> Revoked {
    let key = |line: &str| line.parse::<ssh_key::PublicKey>().ok()?.to_bytes().ok();
    Revoked::parse(&made(name), key).unwrap()
}

fn judged(bytes: &[u8], revoked: &Revoked, address: &str, now: Time) -> Result<Holding, Fault> {
    let certificate = Certificate::parse(bytes)?;
    certificate.verify(authorities().iter())?;
    certificate.judge(&authorities(), &["acme".to_owned()], revoked, address.parse().unwrap(), now)
}

fn of(name: &str) -> Result<Holding, Fault> {
    judged(&blob(&format!("{name}-cert.pub")), &Revoked::default(), "198.51.100.1", NOW)
}

#[test]
fn a_certificate_of_a_known_authority_for_a_principal_of_the_user_passes_and_is_told_by_name() {
    let good = of("good").unwrap();
    assert_eq!(good.fingerprint, fingerprint(&blob("good.pub")));
    assert_eq!(good.key, blob("good.pub"));
    let certified = good.certified.unwrap();
    assert_eq!((certified.id.as_str(), certified.serial), ("nightly of acme", 7));
    assert_eq!(certified.principals, ["acme", "ops"]);
    assert!(certified.words().ends_with(&fingerprint(&blob("ca.pub"))), "{}", certified.words());
    for kind in ["ecdsa", "rsa", "signed-by-rsa", "unnumbered"] {
        assert!(of(kind).is_ok(), "{kind}: {:?}", of(kind));
    }
}

#[test]
fn each_thing_that_is_wrong_with_a_certificate_refuses_it() {
    for (name, fault) in [
        ("stranger", Fault::Authority),
        ("signed-with-sha1", Fault::Signature),
        ("weak", Fault::Key),
        ("source", Fault::Address),
        ("forced", Fault::Option),
        ("host", Fault::Host),
        ("everyone", Fault::Principal),
    ] {
        assert_eq!(of(name).unwrap_err(), fault, "{name}");
    }
    let good = blob("good-cert.pub");
    let at = |seconds: u64| judged(&good, &Revoked::default(), "198.51.100.1", Time(seconds * 1000));
    // The window of tests/certificates/make, to the second.
    assert_eq!(at(1_767_225_599).unwrap_err(), Fault::NotYet);
    assert!(at(1_767_225_600).is_ok());
    assert!(at(1_798_761_599).is_ok());
    assert_eq!(at(1_798_761_600).unwrap_err(), Fault::Expired);
    let certificate = Certificate::parse(&good).unwrap();
    let judge = |authorities: &[PublicKey], principal: &str| {
        let address = "198.51.100.1".parse().unwrap();
        certificate.judge(authorities, &[principal.to_owned()], &Revoked::default(), address, NOW)
    };
    assert_eq!(judge(&authorities(), "acm").unwrap_err(), Fault::Principal);
    assert_eq!(judge(&[authority("other.pub")], "acme").unwrap_err(), Fault::Authority);
    assert_eq!(judge(&[], "acme").unwrap_err(), Fault::NotTaken);
}

#[test]
fn source_address_is_honoured_in_either_family() {
    let source = blob("source-cert.pub");
    for (address, fine) in [
        ("203.0.113.9", true),
        ("::ffff:203.0.113.9", true),
        ("2001:db8::7", true),
        ("203.0.114.1", false),
        ("2001:db9::1", false),
    ] {
        let judged = judged(&source, &Revoked::default(), address, NOW);
        assert_eq!(judged.is_ok(), fine, "{address}: {judged:?}");
    }
    assert_eq!(within(b"\0\0\0\x03*.x", "203.0.113.9".parse().unwrap()), None);
    assert_eq!(within(b"\0\0\0\0", "203.0.113.9".parse().unwrap()), None);
}

#[test]
fn whatever_a_revocation_list_of_ssh_keygen_names_is_revoked() {
    let good = blob("good-cert.pub");
    for list in ["serial", "range", "bitmap", "id", "sha1", "sha256", "key", "authority"] {
        let revoked = revoked(&format!("{list}.krl"));
        assert_eq!(judged(&good, &revoked, "198.51.100.1", NOW).unwrap_err(), Fault::Revoked, "{list}");
        assert_eq!(revoked.has_key(&blob("good.pub")), ["sha1", "sha256", "key"].contains(&list), "{list}");
    }
    assert!(judged(&good, &revoked("nothing.krl"), "198.51.100.1", NOW).is_ok());
    let lines = revoked("good.pub");
    assert_eq!(judged(&good, &lines, "198.51.100.1", NOW).unwrap_err(), Fault::Revoked);
    let bitmap = revoked("bitmap.krl");
    let numbered = |serial| {
        let mut holding = of("good").unwrap();
        holding.certified.as_mut().unwrap().serial = serial;
        bitmap.covers(&holding)
    };
    let named: Vec<u64> = (0..40).filter(|serial| numbered(*serial)).collect();
    assert_eq!(named, [7, 9, 11, 14, 15, 18, 21, 23, 24]);
    let of_others = {
        let mut holding = of("good").unwrap();
        holding.certified.as_mut().unwrap().authority = blob("other.pub");
        revoked("serial.krl").covers(&holding)
    };
    assert!(!of_others, "a serial number counts for the authority that gave it");
}

#[test]
fn a_list_that_is_broken_or_of_an_unknown_kind_is_no_list() {
    let whole = made("serial.krl");
    let parse = |bytes: &[u8]| Revoked::parse(bytes, |_| None);
    for len in 8..whole.len() {
        // A list that ends after its head names nothing, and is whole.
        let cut = parse(&whole[..len]);
        assert!(cut.is_err() || cut == Ok(Revoked::default()), "{len}");
    }
    let mut other = whole.clone();
    other[11] = 2;
    assert_eq!(parse(&other), Err(crate::policy::RevokedError::Version));
    other = made("nothing.krl");
    other.extend([4, 0, 0, 0, 0]);
    assert_eq!(parse(&other), Err(crate::policy::RevokedError::Section(4)));
    assert_eq!(parse(b"# a comment\n\nnot a key\n"), Err(crate::policy::RevokedError::Line(3)));
}

proptest! {
    /// The signature covers every byte before it, and the rest must be what it is.
    #[test]
    fn a_changed_byte_never_passes(at in any::<prop::sample::Index>(), change in 1u8..) {
        let mut bytes = blob("good-cert.pub");
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(judged(&bytes, &Revoked::default(), "198.51.100.1", NOW).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in any::<prop::sample::Index>()) {
        let _ = Certificate::parse(&bytes);
        let _ = Revoked::parse(&bytes, |_| None);
        let _ = Revoked::parse(&[&b"SSHKRL\n\0\0\0\0\x01"[..], &bytes].concat(), |_| None);
        let good = blob("good-cert.pub");
        prop_assert!(Certificate::parse(&good[..cut.index(good.len())]).is_err());
    }
}

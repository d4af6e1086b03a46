//! One-time codes at a login, and that what is asked of a stranger, in answers and in work, does not depend on the name.

use std::net::IpAddr;

use super::*;
use crate::names::Digest;
use crate::policy::user::{Limits, Login, PublicKey};

const NOW: Time = Time(59_000);
/// Appendix B of RFC 6238.
const CODE: &str = "287082";
const PASSWORD: &str = "correct horse";
const KEY: &[u8] = b"a key";

fn user(name: &str, require: &[&[Method]]) -> User {
    static HASH: std::sync::LazyLock<PasswordHash> = std::sync::LazyLock::new(|| {
        "$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            .parse()
            .unwrap()
    });
    let asks = |method| require.iter().any(|way| way.contains(&method));
    let key = PublicKey {
        algorithm: "ssh-ed25519".to_owned(),
        blob: KEY.to_vec(),
        fingerprint: String::new(),
        comment: String::new(),
        expires: None,
    };
    User {
        name: name.parse().unwrap(),
        login: Login {
            keys: vec![key],
            authorities: Vec::new(),
            principals: Vec::new(),
            password: asks(Method::Password).then(|| HASH.clone()),
            totp: asks(Method::Totp).then_some(SealedSecret([7; 48])),
            require: require.iter().map(|way| way.to_vec()).collect(),
            from: Vec::new(),
            hours: Vec::new(),
            disabled: false,
            expires: None,
        },
        limits: Limits::default(),
        folders: Vec::new(),
        inbox: None,
        due: Vec::new(),
    }
}

fn policy(password: &str) -> Policy {
    use Method::{Password, PublicKey, Totp};
    let mut both = user("both", &[&[Password, Totp]]);
    both.login.password = Some(PasswordHash::of(password).unwrap());
    let mut off = user("off", &[&[Password, Totp]]);
    off.login.disabled = true;
    let key = user("key", &[&[PublicKey, Totp]]);
    let plain = user("plain", &[&[PublicKey]]);
    Policy::new(Digest([0; 32]), [both, off, key, plain])
}

fn facts<'a>(user: &'a str, passed: &'a [Method]) -> LoginFacts<'a> {
    LoginFacts { user, address: IpAddr::from([203, 0, 113, 9]), now: NOW, passed }
}

fn check(policy: &Policy, user: &str, passed: &[Method], credential: Credential<'_>) -> SecretCheck {
    match login(policy, &facts(user, passed), credential) {
        LoginVerdict::CheckSecret(check) => check,
        other => panic!("{user}: {other:?}"),
    }
}

fn secret() -> TotpSecret {
    TotpSecret::from_bytes(b"12345678901234567890").unwrap()
}

#[test]
fn a_password_and_its_code_admit_together_or_one_after_the_other() {
    let policy = policy(PASSWORD);
    let opened = secret();
    let verify = |passed: &[Method], credential, given| {
        check(&policy, "both", passed, credential).verify(given, Some(&opened), NOW)
    };
    let whole = format!("{PASSWORD}{CODE}");
    let Checked::Code { step: 1, fresh, used } = verify(&[], Credential::Password, Given::Password(&whole)) else {
        panic!()
    };
    assert!(matches!(*fresh, LoginVerdict::Admit(_)));
    assert!(matches!(*used, LoginVerdict::Refuse { reason: LoginRefusal::UsedCode, .. }));
    let first = verify(&[], Credential::Password, Given::Password(PASSWORD));
    let Checked::Decided(LoginVerdict::Partial { passed, methods, .. }) = first else { panic!("{first:?}") };
    assert_eq!((&passed[..], &methods[..]), (&[Method::Password][..], &[Choice::Code][..]));
    let then = verify(&passed, Credential::Code, Given::Code(CODE));
    assert!(matches!(then, Checked::Code { step: 1, .. }), "{then:?}");
    for (credential, given) in [
        (Credential::Password, Given::Password("correct horse287083")),
        (Credential::Password, Given::Password("correct hors287082")),
        // A code first, or alone, is asked for by nobody.
        (Credential::Code, Given::Code(CODE)),
    ] {
        let verdict = verify(&[], credential, given);
        assert!(matches!(verdict, Checked::Decided(LoginVerdict::Refuse { .. })), "{credential:?}: {verdict:?}");
    }
}

#[test]
fn a_key_is_followed_by_a_code_and_no_key_by_none() {
    let policy = policy(PASSWORD);
    let LoginVerdict::Partial { passed, methods, .. } = login(&policy, &facts("key", &[]), Credential::Key(KEY)) else {
        panic!()
    };
    assert_eq!(methods, [Choice::Code]);
    let opened = secret();
    let right = check(&policy, "key", &passed, Credential::Code).verify(Given::Code(CODE), Some(&opened), NOW);
    assert!(matches!(right, Checked::Code { .. }), "{right:?}");
    // A secret that does not open is no secret.
    let shut = check(&policy, "key", &passed, Credential::Code).verify(Given::Code(CODE), None, NOW);
    assert!(matches!(shut, Checked::Decided(LoginVerdict::Refuse { reason: LoginRefusal::WrongCode, .. })), "{shut:?}");
}

/// Answers, and the number and cost of the hashes that are computed, of names that exist, do not, or may not.
#[test]
fn what_a_stranger_hears_and_what_it_costs_is_the_same_for_every_name() {
    let policy = policy("another password");
    for (credential, given, hashes) in [
        (Credential::Password, Given::Password("a guess"), 1),
        (Credential::Password, Given::Password("a guess with 123456"), 2),
        (Credential::Code, Given::Code("123456"), 0),
    ] {
        let mut heard = Vec::new();
        for name in ["both", "off", "plain", "never-was", "Not/A\0Name", ""] {
            let check = check(&policy, name, &[], credential);
            let work = check.work(given);
            assert_eq!(work.len(), hashes, "{name}");
            let Checked::Decided(LoginVerdict::Refuse { methods, .. }) = check.verify(given, None, NOW) else {
                panic!("{name}")
            };
            heard.push((methods, work));
        }
        heard.dedup();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].0, [Choice::PublicKey, Choice::Password]);
    }
}

#[test]
fn where_certificates_are_taken_every_offer_would_do_and_the_signature_decides() {
    let mut certified = user("certified", &[&[Method::PublicKey]]);
    certified.login.authorities = certified.login.keys.clone();
    certified.login.principals = vec!["certified".to_owned()];
    let policy = Policy::new(Digest([0; 32]), [certified, user("plain", &[&[Method::PublicKey]])]);
    for name in ["certified", "plain", "never-was"] {
        let offered = login(&policy, &facts(name, &[]), Credential::Offer(b"another key"));
        assert!(matches!(offered, LoginVerdict::Acceptable), "{name}: {offered:?}");
        for credential in [Credential::Key(b"another key"), Credential::Certificate(b"nonsense")] {
            let signed = login(&policy, &facts(name, &[]), credential);
            assert!(matches!(signed, LoginVerdict::Refuse { .. }), "{name}: {signed:?}");
        }
    }
}

#[test]
fn who_is_asked_about_outside_is_let_in_by_a_yes_and_by_nothing_else() {
    use Method::{External, Password, PublicKey, Totp};
    let alone = user("alone", &[&[External]]);
    let after_key = user("after-key", &[&[PublicKey, External]]);
    let before_code = user("before-code", &[&[External, Totp]]);
    let here = user("here", &[&[Password]]);
    let policy = Policy::new(Digest([0; 32]), [alone, after_key, before_code, here]);
    assert_eq!(policy.choices(), [Choice::PublicKey, Choice::Password]);
    let check = |name: &str, passed: &[Method]| match login(&policy, &facts(name, passed), Credential::Password) {
        LoginVerdict::CheckSecret(check) => check,
        other => panic!("{other:?}"),
    };
    assert!(matches!(check("alone", &[]).accepted(), LoginVerdict::Admit(_)));
    assert!(matches!(check("after-key", &[PublicKey]).accepted(), LoginVerdict::Admit(_)));
    assert!(matches!(check("before-code", &[]).accepted(), LoginVerdict::Partial { .. }));
    // No hash that is here stands for a yes.
    let verified = check("alone", &[]).verify(Given::Password(PASSWORD), None, NOW);
    assert!(matches!(verified, Checked::Decided(LoginVerdict::Refuse { .. })), "{verified:?}");
    // Too early, of another, or of nobody: there is nothing to ask, and a yes would be of no use.
    for name in ["after-key", "here", "nobody"] {
        let check = check(name, &[]);
        assert!(!check.asks_outside(), "{name}");
        assert!(matches!(check.accepted(), LoginVerdict::Refuse { .. }), "{name}");
    }
}

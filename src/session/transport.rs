//! The way bytes come and go: the TCP stream, and the SSH algorithms and sizes we offer. Why each number is what it is
//! stands beside it.

mod stream;

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};
use stream::Stream;
use tokio::net::TcpStream;

use super::SessionSettings;
use crate::config::settings::OldAlgorithm;

/// What a client may send ahead of our answers: at first, as OpenSSH's server has it, and at most. Where the client is fast
/// and near, all of a large window stands in its own buffers, and OpenSSH's spends as long again on moving it about there: 1 GiB
/// from the same machine costs it 1.7 seconds of processor with 2 MiB, and 3.4 with 16. What a session then holds is bounded elsewhere
/// (`channel`), since russh opens the window again as data arrives, not as it is used.
const WINDOW: u32 = 2 << 20;
pub const WINDOW_MAX: u32 = 16 << 20;

/// Bytes that a fast line has on its way for each millisecond of its round trip: 2 Gbit/s.
const LINE_PER_MS: u32 = 256 << 10;

/// The largest SSH packet russh's transport takes.
const SSH_PACKET_MAX: u32 = 256 * 1024;

/// OpenSSH's rule for ciphers of short blocks, which covers chacha20-poly1305 too; with AES-GCM it is far from any
/// limit. An exchange costs about a millisecond, so nothing is gained by a limit per cipher.
const REKEY_BYTES: usize = 1 << 30;

/// The hash of a password takes some 50 ms on a slow machine; refusals of every kind take this long.
const REFUSAL_TIME: Duration = Duration::from_millis(400);

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// AEADs first. CTR is for clients that have no AEAD, and only with the encrypt-then-MAC names below.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR];

const MACS: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];

/// For old clients. The MACs have no part in an AEAD cipher.
const OLD_KEX: &[(OldAlgorithm, kex::Name)] =
    &[(OldAlgorithm::Group14Sha256, kex::DH_G14_SHA256), (OldAlgorithm::Group14Sha1, kex::DH_G14_SHA1)];
const OLD_MACS: &[(OldAlgorithm, mac::Name)] = &[
    (OldAlgorithm::HmacSha2, mac::HMAC_SHA256),
    (OldAlgorithm::HmacSha2, mac::HMAC_SHA512),
    (OldAlgorithm::HmacSha1, mac::HMAC_SHA1),
];
const OLD_KEYS: &[(OldAlgorithm, Algorithm)] = &[(OldAlgorithm::SshRsa, Algorithm::Rsa { hash: None })];

/// Host keys we may have, and the users' signatures we announce (`server-sig-algs`). `ssh-rsa` is RSA with SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Whether a user's signature of this algorithm is ever looked at.
pub fn accepts_user_key(algorithm: &Algorithm, old: &[OldAlgorithm]) -> bool {
    let sha1 = old.contains(&OldAlgorithm::SshRsa) && matches!(algorithm, Algorithm::Rsa { hash: None });
    KEYS.contains(algorithm) || sha1
}

/// `base`, and then those of `more` whose algorithm is among the old ones: last, so that a client which knows better never
/// gets them.
fn with_old<T: Clone>(base: &'static [T], old: &[OldAlgorithm], more: &[(OldAlgorithm, T)]) -> Cow<'static, [T]> {
    let more: Vec<T> = more.iter().filter(|(word, _)| old.contains(word)).map(|(_, name)| name.clone()).collect();
    if more.is_empty() { Cow::Borrowed(base) } else { Cow::Owned([base, &more].concat()) }
}

/// `old` is what this client may use beside what everybody may.
pub fn config(host_keys: Vec<PrivateKey>, settings: &SessionSettings, old: &[OldAlgorithm]) -> Config {
    let mut methods = MethodSet::empty();
    methods.push(MethodKind::PublicKey);
    methods.push(MethodKind::Password);
    let mut config = Config {
        server_id: SshId::Standard(Cow::Owned(format!("SSH-2.0-{}", settings.server_id))),
        methods,
        auth_rejection_time: REFUSAL_TIME,
        // `none` asks for the methods; nothing is guessed with it.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: host_keys,
        window_size: WINDOW,
        maximum_packet_size: SSH_PACKET_MAX,
        // Batches of replies on their way from a task to the connection. Each is up to 510 KiB, and with more of them a download
        // was not faster, only larger.
        event_buffer_size: 1,
        preferred: Preferred {
            kex: with_old(KEX, old, OLD_KEX),
            key: with_old(KEYS, old, OLD_KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: with_old(MACS, old, OLD_MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // An agent may hold several keys, and each that is not the right one counts.
        max_auth_attempts: 10,
        // Both are ours: the login grace before admission, the idle limit of the policy after it.
        inactivity_timeout: None,
        keepalive_interval: None,
        ..Config::default()
    };
    config.limits.rekey_read_limit = REKEY_BYTES;
    config.limits.rekey_write_limit = REKEY_BYTES;
    config
}

/// Prepares the accepted stream. A peer that vanished is noticed by the kernel within a minute, so that the partner's
/// next connection can go on with the upload this one still holds.
pub fn stream(stream: std::net::TcpStream) -> io::Result<Stream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(&stream, sockopt::TcpKeepCount, &4)?;
    // Keepalives do not run while data is unacknowledged; this does. A filter or a kernel without it is no reason to
    // turn the client away.
    if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &40_000) {
        tracing::debug!(%error, "a vanished client will be noticed late");
    }
    Ok(Stream::new(TcpStream::from_std(stream)?))
}

/// The window of a client that takes so long to answer: what keeps its line full.
pub fn window(round_trip: Duration) -> u32 {
    let ms = u32::try_from(round_trip.as_millis()).unwrap_or(u32::MAX);
    WINDOW.saturating_add(ms.saturating_mul(LINE_PER_MS)).min(WINDOW_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aead_ciphers_and_etm_macs_are_offered() {
        let config = config(Vec::new(), &SessionSettings::default(), &[]);
        assert!(
            config.preferred.cipher.iter().all(|c| {
                c.as_ref().contains("gcm") || c.as_ref().contains("poly1305") || c.as_ref() == "aes256-ctr"
            })
        );
        assert!(config.preferred.mac.iter().all(|m| m.as_ref().contains("-etm@")));
        assert_eq!(config.preferred.kex[0].as_ref(), "mlkem768x25519-sha256");
        assert!(config.preferred.kex.iter().any(|k| k.as_ref() == "kex-strict-s-v00@openssh.com"));
        assert!(config.preferred.kex.iter().all(|k| !k.as_ref().ends_with("sha1")));
        assert_eq!(config.preferred.compression.len(), 1);
    }

    #[test]
    fn a_far_client_gets_a_window_that_fills_its_line() {
        assert_eq!(window(Duration::from_micros(900)), WINDOW);
        assert_eq!(window(Duration::from_millis(20)), WINDOW + 20 * LINE_PER_MS);
        assert_eq!(window(Duration::from_millis(100)), WINDOW_MAX);
        assert_eq!(window(Duration::MAX), WINDOW_MAX);
    }

    #[test]
    fn old_algorithms_come_last_and_only_where_and_until_the_operator_says() {
        use crate::clock::Time;
        use crate::config::settings::OldClients;
        let until = Time(1_800_000_000_000);
        let from = vec!["203.0.113.0/24".parse().unwrap()];
        let algorithms = vec![OldAlgorithm::HmacSha1, OldAlgorithm::Group14Sha1, OldAlgorithm::SshRsa];
        let old_clients = vec![OldClients { from, until, algorithms: algorithms.clone() }];
        let settings = SessionSettings { old_clients, ..SessionSettings::default() };
        let old = |address: &str, at| settings.old_algorithms(address.parse().unwrap(), Time(at));
        assert_eq!(old("::ffff:203.0.113.9", until.0 - 1), algorithms);
        assert_eq!(old("203.0.113.9", until.0), []);
        assert_eq!(old("203.0.114.9", until.0 - 1), []);
        let offered = config(Vec::new(), &settings, &algorithms);
        let last = |names: Vec<&str>| names.last().map(|name| (*name).to_owned());
        assert_eq!(last(offered.preferred.mac.iter().map(AsRef::as_ref).collect()).as_deref(), Some("hmac-sha1"));
        let kex = last(offered.preferred.kex.iter().map(AsRef::as_ref).collect());
        assert_eq!(kex.as_deref(), Some("diffie-hellman-group14-sha1"));
        assert_eq!(offered.preferred.key.last(), Some(&Algorithm::Rsa { hash: None }));
    }

    #[test]
    fn rsa_with_sha1_is_no_signature() {
        assert!(!accepts_user_key(&Algorithm::Rsa { hash: None }, &[]));
        assert!(accepts_user_key(&Algorithm::Rsa { hash: None }, &[OldAlgorithm::SshRsa]));
        assert!(!accepts_user_key(&Algorithm::Dsa, &[OldAlgorithm::SshRsa]));
        assert!(accepts_user_key(&Algorithm::Rsa { hash: Some(HashAlg::Sha256) }, &[]));
        assert!(accepts_user_key(&Algorithm::SkEd25519, &[]));
    }

    /// What a hardware key signs: the application's digest, its flags and counter, and the message's digest.
    #[test]
    fn a_hardware_keys_signature_is_verified() {
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        use russh::keys::signature::Verifier;
        use russh::keys::ssh_key::{Signature, public::KeyData};
        use sha2::{Digest, Sha256};

        use crate::sftp::wire::Write;
        let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let mut wire = Vec::new();
        wire.put_string(b"sk-ssh-ed25519@openssh.com");
        wire.put_string(pair.public_key().as_ref());
        wire.put_string(b"ssh:");
        let key = russh::keys::key::parse_public_key(&wire).unwrap();
        let after = [1, 0, 0, 0, 9];
        let signed = [&Sha256::digest(b"ssh:")[..], &after, &Sha256::digest(b"message")].concat();
        let data = [pair.sign(&signed).as_ref(), &after].concat();
        let signature = Signature::new(Algorithm::SkEd25519, data).unwrap();
        assert!(matches!(key.key_data(), KeyData::SkEd25519(_)));
        assert!(Verifier::verify(key.key_data(), b"message", &signature).is_ok());
        assert!(Verifier::verify(key.key_data(), b"another", &signature).is_err());
    }
}

//! The key exchange, seen from a client: the post-quantum one is what is negotiated, and sessions forked from one gate
//! draw nothing twice.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use russh::client;

use crate::site::Site;
use crate::wire::string;

/// Key exchange, cipher and shared secret of a connection.
type Exchanged = (String, String, Vec<u8>);

/// Notes what was negotiated and with what secret.
struct Watcher(Arc<Mutex<Vec<Exchanged>>>);

impl client::Handler for Watcher {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        shared_secret: Option<&[u8]>,
        names: &russh::Names,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        let secret = shared_secret.unwrap_or_default().to_vec();
        self.0.lock().unwrap().push((names.kex.as_ref().to_owned(), names.cipher.as_ref().to_owned(), secret));
        Ok(())
    }
}

#[test]
fn the_hybrid_key_exchange_is_negotiated() {
    let site = Site::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for _ in 0..3 {
            let config = Arc::new(client::Config::default());
            client::connect(config, site.place().listen(), Watcher(Arc::clone(&seen))).await.unwrap();
        }
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    for (kex, cipher, secret) in seen.iter() {
        assert_eq!(kex, "mlkem768x25519-sha256");
        assert!(cipher.contains("gcm") || cipher.contains("poly1305"), "{cipher}");
        assert!(secret.iter().any(|byte| *byte != 0));
    }
    let secrets: BTreeSet<_> = seen.iter().map(|(_, _, secret)| secret).collect();
    assert_eq!(secrets.len(), 3);
}

/// An unencrypted SSH packet; its padding is zeros.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let length = u32::try_from(payload.len() + 1 + padding).unwrap();
    [&length.to_be_bytes()[..], &[padding as u8], payload, &vec![0; padding]].concat()
}

fn receive(stream: &mut impl Read) -> Vec<u8> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
    let mut rest = vec![0; length - 1];
    stream.read_exact(&mut rest).unwrap();
    rest.truncate(length - 1 - usize::from(head[4]));
    rest
}

/// The server's cookie and its ephemeral key, to a client that always says the same.
fn drawn(stream: TcpStream) -> (Vec<u8>, Vec<u8>) {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).unwrap();
    assert!(line.starts_with("SSH-2.0-"), "{line}");
    let mut init = [&[20][..], &[9; 16]].concat();
    for names in [
        "curve25519-sha256",
        "ssh-ed25519",
        "aes256-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-256-etm@openssh.com",
        "none",
        "none",
        "",
        "",
    ] {
        init.extend(string(names.as_bytes()));
    }
    init.extend([0; 5]);
    // The base point, as if it were our ephemeral key.
    let exchange = [&[30][..], &string(&[&[9][..], &[0; 31]].concat())].concat();
    let said = [b"SSH-2.0-Same\r\n".to_vec(), packet(&init), packet(&exchange)].concat();
    input.get_mut().write_all(&said).unwrap();
    let offer = receive(&mut input);
    assert_eq!(offer[0], 20, "KEXINIT");
    let reply = receive(&mut input);
    assert_eq!(reply[0], 31, "KEX_ECDH_REPLY");
    let host_key = u32::from_be_bytes(reply[1..5].try_into().unwrap()) as usize;
    let ephemeral = &reply[5 + host_key..];
    assert_eq!(ephemeral[..4], 32_u32.to_be_bytes());
    (offer[1..17].to_vec(), ephemeral[4..36].to_vec())
}

/// They are forked from one process, one right after the other, and told the same: what one draws, no other does.
#[test]
fn sibling_sessions_draw_nothing_twice() {
    let site = Site::new();
    let siblings: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(site.place().listen()).unwrap()).collect();
    let drawn: Vec<_> = siblings.into_iter().map(drawn).collect();
    let cookies: BTreeSet<_> = drawn.iter().map(|(cookie, _)| cookie).collect();
    let keys: BTreeSet<_> = drawn.iter().map(|(_, key)| key).collect();
    assert_eq!((cookies.len(), keys.len()), (16, 16));
}

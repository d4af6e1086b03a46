//! Logins by a client that costs little: `scripts/bench` measures servers with it. Stock sftp is a process for each login, and another
//! for ssh; what they cost is most of what is then seen. Here one process logs in again and again, up to the server's
//! answer to SFTP's INIT. The server's signature is verified; that its key is a known one is not.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use russh::client::{self, Config};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{Channel, ChannelMsg, Disconnect, Preferred, cipher, kex};
use tokio::task::JoinSet;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// SFTP: a packet of five bytes, INIT, version 3.
const INIT: &[u8] = &[0, 0, 0, 5, 1, 0, 0, 0, 3];
const VERSION: u8 = 2;

/// Logs in again and again, and says in JSON how long that took and what it cost this client
#[derive(Parser)]
struct Options {
    /// The server, as ADDRESS:PORT
    address: String,
    user: String,
    /// The file of the user's private key, without a passphrase
    key: PathBuf,
    /// The only key exchange that is offered
    kex: String,
    /// How many logins
    count: u32,
    /// How many of them at once
    #[arg(default_value = "4")]
    at_once: u32,
}

fn main() -> Outcome<()> {
    // `cargo bench` runs all it finds, and says so.
    if std::env::args().any(|word| word == "--bench") {
        println!("logins: a client for scripts/bench");
        return Ok(());
    }
    let options = Options::parse();
    let user = Arc::new(User::new(&options)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    runtime.block_on(all(user, options.count, options.at_once))?;
    let (count, seconds) = (options.count, begun.elapsed().as_secs_f64());
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
    println!("{}", serde_json::json!({ "count": count, "seconds": seconds, "client_cpu": cpu }));
    Ok(())
}

/// What every login takes.
struct User {
    address: String,
    name: String,
    key: PrivateKeyWithHashAlg,
    config: Arc<Config>,
}

impl User {
    fn new(options: &Options) -> Outcome<Self> {
        let offered = kex::Name::try_from(options.kex.as_str()).map_err(|()| format!("no kex is {}", options.kex))?;
        let kex = vec![offered, kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT];
        let cipher = vec![cipher::AES_256_GCM];
        let preferred = Preferred { kex: kex.into(), cipher: cipher.into(), ..Preferred::DEFAULT };
        Ok(Self {
            address: options.address.clone(),
            name: options.user.clone(),
            key: PrivateKeyWithHashAlg::new(Arc::new(load_secret_key(&options.key, None)?), None),
            config: Arc::new(Config { preferred, nodelay: true, ..Config::default() }),
        })
    }

    async fn log_in(&self) -> Outcome<()> {
        let mut session = client::connect(Arc::clone(&self.config), &self.address, AnyKey).await?;
        if !session.authenticate_publickey(&self.name, self.key.clone()).await?.success() {
            return Err("the server refuses the key".into());
        }
        let mut channel = session.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        channel.data_bytes(INIT).await?;
        greeted(&mut channel).await?;
        session.disconnect(Disconnect::ByApplication, "", "").await?;
        // The goodbye is sent when this ends; as what, does not matter, and russh calls its own an error.
        let _ = session.await;
        Ok(())
    }
}

struct AnyKey;

impl client::Handler for AnyKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn all(user: Arc<User>, count: u32, at_once: u32) -> Outcome<()> {
    let begun = Arc::new(AtomicU32::new(0));
    let mut running = JoinSet::new();
    for _ in 0..at_once {
        let (user, begun) = (Arc::clone(&user), Arc::clone(&begun));
        running.spawn(async move {
            while begun.fetch_add(1, Relaxed) < count {
                user.log_in().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// The subsystem is granted, and answers.
async fn greeted(channel: &mut Channel<client::Msg>) -> Outcome<()> {
    let (mut granted, mut answer) = (false, Vec::new());
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Success => granted = true,
            ChannelMsg::Data { data } => answer.extend_from_slice(&data),
            ChannelMsg::Failure => return Err("the server has no sftp".into()),
            _ => {}
        }
        if granted && answer.len() > 4 {
            return if answer[4] == VERSION {
                Ok(())
            } else {
                Err("the server answers INIT with something else".into())
            };
        }
    }
    Err("the server closes the channel".into())
}

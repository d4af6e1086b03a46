//! The demo's directory: a configuration, policies, users' keys and everything a stock client needs to trust the
//! server. The integration tests stand on the same place, so its layout is a contract (docs/cli.md, "demo").
//! Making it again keeps the keys that are there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::keeper::keys::KeyError;
use crate::seal::{Identity, Kem};
use crate::{cli, config};

/// Where everything of one demo is.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
    listen: SocketAddr,
}

/// The name in the demo's receipts, and so the principal in `allowed_signers`.
pub const SERVER: &str = "sealdrop-demo";
/// Who pushes.
pub const PARTNER: &str = "partner";
/// A managed recipient: the server opens for it.
pub const RADIOLOGY: &str = "radiology";
/// A sealed recipient: the server never sees its identity.
pub const LAB: &str = "lab";
const USERS: [&str; 3] = [PARTNER, RADIOLOGY, LAB];

/// Linux refuses longer paths for a Unix socket (unix(7): 108 bytes with the final NUL).
const SOCKET_PATH_MAX: usize = 107;

impl Place {
    /// Makes what is missing in `dir`.
    pub fn make(dir: &Path, listen: SocketAddr) -> Result<Self, Failure> {
        make_dir(dir)?;
        let dir = dir.canonicalize().map_err(|e| cannot("find", dir, &e))?;
        let place = Self { dir, listen };
        if place.admin().as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Failure::new(format_args!("{} is too long a path for a socket", place.admin().display()))
                .hint("choose a shorter --dir"));
        }
        for sub in [place.dir.join("config"), place.dir.join("config/policies"), place.dir.join("keys")] {
            make_dir(&sub)?;
        }
        for user in USERS {
            let path = place.key(user);
            if !path.exists() {
                make_ssh_key(&path, user)?;
            }
        }
        let lab = place.lab_recipient()?;
        write(&place.config(), &place.settings())?;
        for (user, policy) in [
            (PARTNER, place.partner_policy()?),
            (RADIOLOGY, place.recipient_policy(RADIOLOGY, "mode = \"managed\"")?),
            (LAB, place.recipient_policy(LAB, &format!("mode = \"sealed\"\nkey = \"{lab}\""))?),
        ] {
            write(&place.dir.join(format!("config/policies/{user}.toml")), &policy)?;
        }
        let loaded = config::load(&place.config()).map_err(|e| cli::config_failure(&place.config(), &e))?;
        let mut nobody = || Err(KeyError::NoPassphrase { why: "the demo's is in a file".to_owned() });
        cli::init::make_state(&loaded.settings, &mut nobody)?;
        place.introduce_server()?;
        Ok(place)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("config/sealdrop.toml")
    }

    pub fn policy(&self, user: &str) -> PathBuf {
        self.dir.join(format!("config/policies/{user}.toml"))
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn admin(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.dir.join("known_hosts")
    }

    pub fn allowed_signers(&self) -> PathBuf {
        self.dir.join("allowed_signers")
    }

    /// A user's private SSH key.
    pub fn key(&self, user: &str) -> PathBuf {
        self.dir.join("keys").join(user)
    }

    /// What the sealed recipient opens its files with.
    pub fn lab_identity(&self) -> PathBuf {
        self.dir.join("keys/lab.identity")
    }

    /// Options that make any OpenSSH client log in here as the user with `key`, ask nothing and read no other file.
    pub fn ssh_options(&self, user: &str) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "/dev/null".to_owned()];
        for option in [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", self.known_hosts().display()),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            format!("IdentityFile={}", self.key(user).display()),
            format!("Port={}", self.listen.port()),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// `user@host` as OpenSSH's clients take it.
    pub fn target(&self, user: &str) -> String {
        match self.listen {
            SocketAddr::V4(v4) => format!("{user}@{}", v4.ip()),
            SocketAddr::V6(v6) => format!("{user}@[{}]", v6.ip()),
        }
    }

    /// The line that `demo --json` prints when the daemon is ready.
    pub fn ready_line(&self, keeper: u32, gate: u32) -> serde_json::Value {
        serde_json::json!({
            "listen": self.listen.to_string(), "state": self.state(), "config": self.config(),
            "known_hosts": self.known_hosts(), "allowed_signers": self.allowed_signers(), "admin": self.admin(),
            "pids": { "keeper": keeper, "gate": gate },
            "users": [
                { "name": PARTNER, "key": self.key(PARTNER),
                  "folders": { "/radiology": "drop", "/lab": "drop", "/shared": "shared" } },
                { "name": RADIOLOGY, "key": self.key(RADIOLOGY), "folders": { "/inbox": "inbox" } },
                { "name": LAB, "key": self.key(LAB), "identity": self.lab_identity(),
                  "folders": { "/inbox": "inbox" } },
            ],
        })
    }

    /// Limits are wide enough for load tests from loopback, where every client has the same address.
    fn settings(&self) -> String {
        format!(
            "# Made by `sealdrop demo`.\n\
             name = \"{SERVER}\"\n\
             listen = [\"{listen}\"]\n\
             state = {state:?}\n\
             admin = {admin:?}\n\
             user = \"nobody\"\n\
             test_clock = true\n\
             [limits]\n\
             connections = 1000\n\
             per_address = 1000\n\
             \n\
             [ssh]\n\
             # So that every stock client can try, also curl of Debian 12 (libssh2 1.10). Leave it out unless you must.\n\
             old_macs = true\n",
            listen = self.listen,
            state = self.state(),
            admin = self.admin(),
        )
    }

    fn partner_policy(&self) -> Result<String, Failure> {
        let mut policy = format!("user = \"{PARTNER}\"\n\n[login]\nkeys = [\"{}\"]\n", self.public_key(PARTNER)?);
        for recipient in [RADIOLOGY, LAB] {
            policy.push_str(&format!(
                "\n[[folder]]\npath = \"/{recipient}\"\nkind = \"drop\"\nto = [\"{recipient}\"]\nexpire = \"72h\"\n"
            ));
        }
        policy.push_str("\n[[folder]]\npath = \"/shared\"\nkind = \"shared\"\n");
        Ok(policy)
    }

    fn recipient_policy(&self, user: &str, inbox: &str) -> Result<String, Failure> {
        Ok(format!("user = \"{user}\"\n\n[login]\nkeys = [\"{}\"]\n\n[inbox]\n{inbox}\n", self.public_key(user)?))
    }

    fn public_key(&self, user: &str) -> Result<String, Failure> {
        let path = self.key(user);
        let key = PrivateKey::read_openssh_file(&path).map_err(|e| cannot("read", &path, &e))?;
        key.public_key().to_openssh().map_err(|e| cannot("read", &path, &e))
    }

    /// The recipient of `lab.identity`, which is made if it is not there.
    fn lab_recipient(&self) -> Result<String, Failure> {
        let path = self.lab_identity();
        if path.exists() {
            let text = Zeroizing::new(fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))?);
            let identities = Identity::parse_file(&text).map_err(|e| cannot("read", &path, &e))?;
            let identity = identities.first().ok_or_else(|| cannot("read", &path, &"no identity is in it"))?;
            return Ok(identity.to_recipient().to_string());
        }
        let identity = Identity::generate(Kem::P256).map_err(|e| cannot("make", &path, &e))?;
        let recipient = identity.to_recipient().to_string();
        let text =
            Zeroizing::new(format!("# the lab's identity; its recipient is {recipient}\n{}\n", *identity.to_text()));
        write_private(&path, &text)?;
        Ok(recipient)
    }

    /// `known_hosts` and `allowed_signers`: what the server would hand a new partner.
    fn introduce_server(&self) -> Result<(), Failure> {
        let keys = self.state().join("keys");
        let public = |name: &str| {
            let path = keys.join(name);
            fs::read_to_string(&path).map(|line| line.trim_end().to_owned()).map_err(|e| cannot("read", &path, &e))
        };
        let host = format!("[{}]:{}", self.listen.ip(), self.listen.port());
        let mut known_hosts = String::new();
        for name in ["host_ed25519.pub", "host_ecdsa.pub"] {
            known_hosts.push_str(&format!("{host} {}\n", public(name)?));
        }
        write(&self.known_hosts(), &known_hosts)?;
        write(
            &self.allowed_signers(),
            &format!(
                "{SERVER} namespaces=\"receipt@sealdrop,content@sealdrop,destroyed@sealdrop,checkpoint@sealdrop\" {}\n",
                public("receipt.pub")?
            ),
        )
    }
}

fn make_ssh_key(path: &Path, user: &str) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|e| cannot("make", path, &e))?;
    let key = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), format!("{user}@{SERVER}"))
        .map_err(|e| cannot("make", path, &e))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|e| cannot("make", path, &e))?;
    write_private(path, &text)?;
    let public = key.public_key().to_openssh().map_err(|e| cannot("make", path, &e))?;
    write(&path.with_extension("pub"), &format!("{public}\n"))
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| cannot("make", path, &e))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|e| cannot("write", path, &e))
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())).map_err(|e| cannot("write", path, &e))
}

fn cannot(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("cannot {what} {}: {why}", path.display()))
}

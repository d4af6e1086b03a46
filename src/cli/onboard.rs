//! `sealdrop onboard USER`: a folder to send to a new partner or recipient, with all that the stock clients need: who the
//! server is, what may be sent where, settings that can be used as they are, and a file to try with.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::PublicKey;
use serde_json::json;

use crate::config::Settings;
use crate::keeper::keys;
use crate::names::{FileName, UserName};
use crate::policy::{self, Folder, FolderKind, Inbox};

use super::Ending;
use super::admin::DEFAULT_CONFIG;
use super::failure::Failure;
use super::open::page::PAGE;
use super::say::Say;
use super::user::{cannot, load, nobody};

mod letter;
mod snippets;

/// Make a folder to send to a user: host keys, how to verify receipts, settings for their client, a test file
#[derive(clap::Args)]
pub struct Onboard {
    /// For whom
    user: UserName,
    /// The name or address that the user will connect to, with its port if it is not the server's own
    #[arg(long, value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// Where the folder is made [default: ./USER-at-SERVER]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The server's settings; policies are found from there
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// What every file of the folder is written from.
struct Facts<'a> {
    server: &'a str,
    user: &'a policy::User,
    host: String,
    port: u16,
    host_keys: Vec<HostKey>,
    allowed_signers: String,
}

/// A public host key: `ssh-ed25519 AAAA…` and its fingerprint.
struct HostKey {
    line: String,
    /// `SHA256:…` as OpenSSH prints it.
    fingerprint: String,
}

impl Onboard {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let loaded = load(&self.config)?;
        let user = loaded.policy.user(&self.user).ok_or_else(|| nobody(&loaded, &self.user))?;
        let settings = &loaded.settings;
        let (host, port) = self.host_and_port(settings)?;
        let facts = Facts {
            server: &settings.name,
            user,
            host,
            port,
            host_keys: host_keys(settings)?,
            allowed_signers: super::init::allowed_signers(settings)?,
        };
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("{}-at-{}", self.user, settings.name)));
        let files = facts.files();
        fs::create_dir(&out).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Failure::new(format_args!("{} is there already", out.display()))
                .hint("remove it, or name another with --out"),
            _ => cannot("make", &out, &e),
        })?;
        for (name, text) in &files {
            write(&out.join(name), text)?;
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        if say.is_json() {
            say.json(&json!({ "folder": out, "files": names, "host": facts.host, "port": facts.port }));
            return Ok(());
        }
        say.line(format_args!("made {}: {}", out.display(), names.join(", ")));
        say.line("Send it to them, and read the fingerprints to them by telephone: whoever can change the mail can change both.");
        if user.login.keys.is_empty() && user.login.principals.is_empty() {
            say.warn(format_args!("{} has no public key yet: `sealdrop user keys {0} --add KEY`", self.user));
        }
        Ok(())
    }

    fn host_and_port(&self, settings: &Settings) -> Result<(String, u16), Failure> {
        let own = settings.listen.first().map_or(22, SocketAddr::port);
        let Some(given) = &self.host else { return Ok((settings.name.clone(), own)) };
        if let Ok(address) = given.parse::<SocketAddr>() {
            return Ok((address.ip().to_string(), address.port()));
        }
        let (host, port) = match given.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => {
                let number = port.parse().map_err(|_| Failure::new(format_args!("`{port}` is no port")))?;
                (host, number)
            }
            _ => (given.as_str(), own),
        };
        // It stands in files that clients read as settings.
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(
                Failure::new(format_args!("`{host}` is no host name")).hint("as in --host sftp.example.org:2222")
            );
        }
        Ok((host.to_owned(), port))
    }
}

impl Facts<'_> {
    /// Names and contents.
    fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![
            ("README.txt".to_owned(), letter::letter(self)),
            ("known_hosts".to_owned(), self.known_hosts()),
            ("allowed_signers".to_owned(), format!("{}\n", self.allowed_signers)),
        ];
        files.extend(snippets::all(self));
        if let Some((_, name)) = self.try_with() {
            files.push((name, "A test. It may be removed.\n".to_owned()));
        }
        if matches!(self.user.inbox, Some(Inbox::Sealed { .. } | Inbox::EndToEnd { .. })) {
            files.push(("open.html".to_owned(), PAGE.to_owned()));
        }
        files
    }

    /// As OpenSSH writes it: `[host]:port` where the port is not 22.
    fn known_hosts(&self) -> String {
        let host = if self.port == 22 { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) };
        self.host_keys.iter().map(|key| format!("{host} {}\n", key.line)).collect()
    }

    /// A folder that the user may send to, and a name that is taken there.
    fn try_with(&self) -> Option<(&Folder, String)> {
        // A folder that takes sealed files alone would refuse a test that is not.
        let mut takes_any = self.user.folders.iter().filter(|folder| !folder.end_to_end);
        takes_any.find_map(|folder| Some((folder.as_ref(), name_for(folder)?)))
    }

    fn drops(&self) -> impl Iterator<Item = &Folder> {
        self.user.folders.iter().map(AsRef::as_ref).filter(|folder| folder.kind == FolderKind::Drop)
    }
}

/// A name that the folder takes, made from its own patterns; `None` if none of them gives one.
fn name_for(folder: &Folder) -> Option<String> {
    let taken = |name: &String| {
        FileName::new(name.as_bytes()).is_ok_and(|name| {
            (folder.accept.is_empty() || folder.accept.matches(&name))
                && !folder.refuse.matches(&name)
                && !folder.temp_names.matches(&name)
        })
    };
    let patterns = folder.accept.texts().iter().map(|pattern| pattern.replace('*', "sealdrop-test"));
    patterns.chain(["sealdrop-test.txt".to_owned()]).find(taken)
}

fn host_keys(settings: &Settings) -> Result<Vec<HostKey>, Failure> {
    let mut found = Vec::new();
    // Those alone that clients are shown: a key that is switched off stays on the disk.
    for kind in &settings.host_keys {
        let path = settings.keys.join(format!("{}.pub", keys::host_key_file(Some(*kind))));
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.map_err(|e| cannot("read", &path, &e))?,
        };
        let key = PublicKey::from_openssh(text.trim())
            .map_err(|e| Failure::new(format_args!("{} is not a public key: {e}", path.display())))?;
        // Algorithm and key; the comment is this machine's own affair.
        let line = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        found.push(HostKey { line, fingerprint: key.fingerprint(HashAlg::Sha256).to_string() });
    }
    if found.is_empty() {
        return Err(Failure::new(format_args!("there is no host key in {}", settings.keys.display()))
            .hint("`sealdrop init` makes them"));
    }
    Ok(found)
}

/// The folder is sent to somebody: what is in it is for everyone to read.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| cannot("write", path, &e))
}

impl HostKey {
    /// Of an SSH key's wire form, as WinSCP names an ed25519 host key: `ssh-ed25519 255 <base64 of SHA-256>`.
    fn winscp(&self) -> Option<String> {
        let digest = self.fingerprint.strip_prefix("SHA256:")?;
        let name = self.line.split_whitespace().next()?;
        let bits = match name {
            "ssh-ed25519" => 255,
            "ecdsa-sha2-nistp256" => 256,
            _ => return None,
        };
        Some(format!("{name} {bits} {digest}"))
    }
}

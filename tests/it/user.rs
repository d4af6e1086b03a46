//! A user of a site with the clients people really have: each method is one run of a stock program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sealdrop::cli::demo::place::SERVER;

use crate::run::{Ran, run};
use crate::site::Site;

#[derive(Clone, Copy)]
pub struct User<'a> {
    pub site: &'a Site,
    pub name: &'static str,
}

impl<'a> User<'a> {
    pub fn new(site: &'a Site, name: &'static str) -> Self {
        Self { site, name }
    }

    // ---- OpenSSH

    /// Batch lines for OpenSSH's `sftp`.
    pub fn sftp(&self, batch: impl AsRef<[u8]>) -> Ran {
        let mut input = batch.as_ref().to_vec();
        input.push(b'\n');
        run(self.sftp_command(), &input)
    }

    fn sftp_command(&self) -> Command {
        let mut command = Command::new("sftp");
        command.args(["-b", "-"]).args(self.ssh_options()).arg(self.target());
        command.current_dir(self.site.work());
        command
    }

    /// OpenSSH's `sftp` with its lines in a file, for a test that runs it itself.
    pub fn sftp_batch(&self, batch: &Path) -> Command {
        let mut command = Command::new("sftp");
        command.arg("-b").arg(batch).args(self.ssh_options()).arg(self.target());
        command.current_dir(self.site.work());
        command
    }

    /// Pushes a local file; must succeed.
    #[track_caller]
    pub fn put(&self, local: &Path, remote: &str) {
        self.sftp(format!("put {} {}", quoted(local), quoted(Path::new(remote)))).ok();
    }

    /// The content of a remote file; must succeed.
    #[track_caller]
    pub fn get(&self, remote: &str) -> Vec<u8> {
        let local = self.site.work().join(format!("got-{}", unique()));
        self.sftp(format!("get {} {}", quoted(Path::new(remote)), quoted(&local))).ok();
        fs::read(&local).expect("what was pulled")
    }

    /// Names in a remote folder, as bytes; must succeed.
    #[track_caller]
    pub fn list(&self, remote: &str) -> Vec<String> {
        let listing = self.sftp(format!("ls -1 {}", quoted(Path::new(remote)))).ok();
        let names = listing.lines().filter(|line| !line.starts_with("sftp>"));
        names.map(|line| line.rsplit('/').next().unwrap_or(line).trim_end().to_owned()).collect()
    }

    /// Names delivered to this recipient by the partner; none before the first.
    #[track_caller]
    pub fn delivered(&self) -> Vec<String> {
        if self.list("/inbox").iter().any(|sender| sender == "partner") {
            self.list("/inbox/partner")
        } else {
            Vec::new()
        }
    }

    /// OpenSSH's `scp`, in its SFTP mode.
    pub fn scp(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("scp");
        command.args(self.ssh_options()).args(words).current_dir(self.site.work());
        run(command, b"")
    }

    /// `ssh` with more options and a command.
    pub fn ssh(&self, options: &[&str], remote: &[&str]) -> Ran {
        let mut command = Command::new("ssh");
        command.args(self.ssh_options()).args(options).arg(self.target()).args(remote);
        run(command, b"")
    }

    pub fn ssh_options(&self) -> Vec<String> {
        self.site.place().ssh_options(self.name)
    }

    pub fn target(&self) -> String {
        self.site.place().target(self.name)
    }

    /// `user@host:path`, as scp takes it.
    pub fn remote(&self, path: &str) -> String {
        format!("{}:{path}", self.target())
    }

    // ---- others

    /// `lftp` with commands separated by `;`.
    pub fn lftp(&self, commands: &str) -> Ran {
        run(self.lftp_command(commands), b"")
    }

    pub fn lftp_command(&self, commands: &str) -> Command {
        let ssh = format!("ssh -a -x {}", self.ssh_options().join(" "));
        let script = format!(
            "set cmd:fail-exit true; set net:max-retries 1; set net:timeout 60; set sftp:auto-confirm yes; \
             set sftp:connect-program \"{ssh}\"; open -u {},none sftp://{}:{}; {commands}",
            self.name,
            self.host(),
            self.port()
        );
        let mut command = Command::new("lftp");
        command.args(["--norc", "-c", &script]).env("LFTP_HOME", self.site.work()).current_dir(self.site.work());
        command
    }

    /// `rclone` with its words; the remote is `:sftp:`.
    pub fn rclone(&self, words: &[&str]) -> Ran {
        run(self.rclone_command(words), b"")
    }

    pub fn rclone_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("rclone");
        command.args(["--config", "/dev/null", "--retries", "1", "--low-level-retries", "1"]);
        command.args(["--sftp-host", &self.host(), "--sftp-port", &self.port(), "--sftp-user", self.name]);
        command.arg("--sftp-key-file").arg(self.key());
        command.arg("--sftp-known-hosts-file").arg(self.site.place().known_hosts());
        command.args(words).env("HOME", self.site.work()).current_dir(self.site.work());
        command
    }

    /// `psftp` with batch lines.
    pub fn psftp(&self, batch: &str) -> Ran {
        run(self.psftp_command(batch), b"")
    }

    pub fn psftp_command(&self, batch: &str) -> Command {
        let script = self.site.file(format!("psftp-{}", unique()), format!("{batch}\n").as_bytes());
        let mut command = self.putty("psftp");
        command.arg("-b").arg(&script).arg(self.target());
        command
    }

    /// `pscp` with its words.
    pub fn pscp(&self, words: &[&str]) -> Ran {
        let mut command = self.putty("pscp");
        command.args(words);
        run(command, b"")
    }

    /// One of PuTTY's programs, with this user's key and the server's.
    fn putty(&self, program: &str) -> Command {
        let key = self.site.work().join(format!("{}.ppk", self.name));
        if !key.exists() {
            let mut convert = Command::new("puttygen");
            convert.arg(self.key()).args(["-O", "private", "-o"]).arg(&key);
            run(convert, b"").ok();
        }
        let mut command = Command::new(program);
        command.args(["-batch", "-P", &self.port(), "-i"]).arg(&key);
        for line in fs::read_to_string(self.site.place().known_hosts()).expect("known hosts").lines() {
            command.args(["-hostkey", &fingerprint(line)]);
        }
        command.env("HOME", self.site.work()).current_dir(self.site.work());
        command
    }

    /// `curl` with its words before the URL of `path`.
    pub fn curl(&self, words: &[&str], path: &str) -> Ran {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--insecure"]).args(words);
        command.arg("--key").arg(self.key()).arg("--pubkey").arg(self.key().with_extension("pub"));
        command.arg(format!("sftp://{}@{}:{}{path}", self.name, self.host(), self.port()));
        command.env("HOME", self.site.work()).current_dir(self.site.work());
        run(command, b"")
    }

    /// A script for asyncssh, in which `sftp` is an open client and `await` works.
    pub fn asyncssh(&self, script: &str) -> Ran {
        let whole = format!(
            "import asyncio, asyncssh\n\
             async def main():\n    \
                 async with asyncssh.connect({host:?}, port={port}, username={user:?}, client_keys=[{key:?}], known_hosts={known_hosts:?}) as ssh:\n        \
                     async with ssh.start_sftp_client() as sftp:\n            \
                         {script}\n\
             asyncio.run(main())\n",
            known_hosts = self.site.place().known_hosts(),
            host = self.host(),
            port = self.port(),
            user = self.name,
            key = self.key(),
        );
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", &whole]).current_dir(self.site.work());
        run(command, b"")
    }

    /// Mounts `path` with sshfs for as long as `work` runs on the mount point, and unmounts it: what was written is then
    /// closed. Without caches, so that what is read is what the server says.
    pub fn mounted(&self, path: &str, work: impl FnOnce(&Path)) {
        let at = self.site.work().join(format!("mounted-{}", self.name));
        std::fs::create_dir_all(&at).expect("a mount point");
        // Against another server there are no sessions of ours.
        let sessions = || if self.site.is_running() { self.site.sessions() } else { Vec::new() };
        let others = sessions();
        let mut mount = Command::new("sshfs");
        mount.arg(self.remote(path)).arg(&at).args(["-p", &self.port().to_string()]);
        for option in ["cache=no", "BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"] {
            mount.args(["-o", option]);
        }
        mount.arg("-o").arg(format!("UserKnownHostsFile={}", self.site.place().known_hosts().display()));
        mount.arg("-o").arg(format!("IdentityFile={}", self.key().display()));
        run(mount, b"").ok();
        let mut mine = sessions();
        mine.retain(|session| !others.contains(session));
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&at)));
        // An unmount drops what sshfs has not read yet, and that a file was closed is told it without waiting (FUSE_RELEASE). What
        // is asked after that, and answered, came after it.
        let _ = std::fs::symlink_metadata(at.join("asked-and-not-there"));
        let unmount = || {
            let mut unmount = Command::new("fusermount3");
            unmount.arg("-u").arg(&at);
            run(unmount, b"")
        };
        // A program that another test is just starting has this one's open files until its exec, and keeps the mount busy.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut ran = unmount();
        while !ran.status.success() && ran.stderr.contains("busy") && Instant::now() < deadline {
            ran = unmount();
        }
        ran.ok();
        // The mount is gone at once; what was written in it is closed when its session has ended.
        if !mine.is_empty() {
            self.site.wait_for_end_of(&mine);
        }
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    }

    /// A script for paramiko, in which `sftp` is an open client.
    pub fn paramiko(&self, script: &str) -> Ran {
        run(self.paramiko_command(script), b"")
    }

    pub fn paramiko_command(&self, script: &str) -> Command {
        let whole = format!(
            "import os, stat, paramiko\n\
             ssh = paramiko.SSHClient()\n\
             ssh.load_host_keys({known_hosts:?})\n\
             ssh.connect({host:?}, port={port}, username={user:?}, key_filename={key:?}, allow_agent=False, look_for_keys=False)\n\
             sftp = ssh.open_sftp()\n\
             {script}\n\
             ssh.close()\n",
            known_hosts = self.site.place().known_hosts(),
            host = self.host(),
            port = self.port(),
            user = self.name,
            key = self.key(),
        );
        // Debian's own: another python first in PATH has not Debian's modules.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-W", "ignore", "-c", &whole]).current_dir(self.site.work());
        command
    }

    /// A script for node's ssh2, in which `sftp` is an open channel whose calls are promises, `raw` is the same as it
    /// is, `ssh` the connection, and `await` works. Without Nagle's algorithm: ssh2 writes each packet in two pieces, and
    /// the second would wait 40 ms for the kernel's acknowledgement of the first, here as with OpenSSH.
    pub fn node(&self, script: &str) -> Ran {
        let whole = format!(
            "const {{ Client }} = require('ssh2'); const fs = require('fs'); const {{ promisify }} = require('util');\n\
             const hosts = fs.readFileSync({known_hosts:?}, 'utf8').split('\\n').map(line => line.split(' ')[2]);\n\
             const ssh = new Client();\n\
             const failed = error => {{ console.error(String(error && error.stack || error)); process.exit(1); }};\n\
             ssh.on('connect', () => ssh.setNoDelay(true)).on('error', failed).on('ready', () => ssh.sftp(async (error, raw) => {{\n\
             if (error) failed(error);\n\
             const sftp = new Proxy({{}}, {{ get: (_, name) => promisify(raw[name].bind(raw)) }});\n\
             try {{ {script} }} catch (error) {{ failed(error); }}\n\
             ssh.end();\n\
             }})).connect({{ host: {host:?}, port: {port}, username: {user:?}, privateKey: fs.readFileSync({key:?}),\n\
             hostVerifier: key => hosts.includes(key.toString('base64')) }});\n",
            known_hosts = self.site.place().known_hosts(),
            host = self.host(),
            port = self.port(),
            user = self.name,
            key = self.key(),
        );
        let mut command = Command::new("node");
        command.args(["-e", &whole]).env("NODE_PATH", crate::site::node_modules()).current_dir(self.site.work());
        run(command, b"")
    }

    /// FileZilla's `fzsftp` with commands, a line each; tests/filezilla/drive.py is its FileZilla.
    pub fn fzsftp(&self, commands: &str) -> Ran {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filezilla/drive.py"));
        command.args([&self.host(), &self.port(), self.name]).arg(self.key()).arg(self.site.place().known_hosts());
        command.env("HOME", self.site.work()).current_dir(self.site.work());
        run(command, commands.as_bytes())
    }

    /// `sealdrop open` with the lab's identity, in the clients' directory; no server is asked.
    pub fn open_offline(&self, sealed: &str, output: &str) -> Ran {
        let mut command = Command::new(crate::site::SEALDROP);
        command.arg("open").arg("--identity").arg(self.site.place().lab_identity());
        command.args(["--output", output, sealed]).current_dir(self.site.work());
        run(command, b"")
    }

    // ---- receipts

    /// The receipt for `path` and the file its signature is in, as pulled over SFTP.
    #[track_caller]
    pub fn receipt(&self, path: &str) -> (String, PathBuf) {
        let text = String::from_utf8(self.get(&format!("/receipts{path}.receipt"))).expect("a text");
        let signature = self.get(&format!("/receipts{path}.receipt.sig"));
        (text, self.site.file(format!("sig-{}", unique()), &signature))
    }

    /// `ssh-keygen -Y verify` of the receipt for `path`, as the server's promise.
    #[track_caller]
    pub fn verified_receipt(&self, path: &str) -> String {
        let (text, signature) = self.receipt(path);
        self.verify("receipt@sealdrop", text.as_bytes(), &signature).ok();
        text
    }

    pub fn verify(&self, namespace: &str, message: &[u8], signature: &Path) -> Ran {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-f"]).arg(self.site.place().allowed_signers());
        command.args(["-I", SERVER, "-n", namespace, "-s"]).arg(signature);
        run(command, message)
    }

    /// `ssh-keygen -Y sign` of a local file with this user's login key: the signature is beside it.
    pub fn sign(&self, options: &[&str], namespace: &str, file: &Path) -> PathBuf {
        let signature = PathBuf::from(format!("{}.sig", file.display()));
        let _ = fs::remove_file(&signature);
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "sign"]).args(options).arg("-f").arg(self.key()).args(["-n", namespace]).arg(file);
        run(command, b"").ok();
        signature
    }

    pub fn key(&self) -> PathBuf {
        self.site.place().key(self.name)
    }

    fn host(&self) -> String {
        self.site.place().listen().ip().to_string()
    }

    fn port(&self) -> String {
        self.site.place().listen().port().to_string()
    }
}

/// A name as sftp's batch lines take it.
pub fn quoted(path: &Path) -> String {
    let text = path.to_str().expect("a name in UTF-8");
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('*', "\\*").replace('?', "\\?").replace('[', "\\[")
    )
}

/// `SHA256:…` of the key in a known_hosts line.
fn fingerprint(line: &str) -> String {
    let key = line.split_once(' ').map_or("", |(_, key)| key);
    let key = russh::keys::PublicKey::from_openssh(key).expect("a public key");
    key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
}

pub fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

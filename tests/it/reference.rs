//! OpenSSH's own server, for comparison: sshd with `internal-sftp` on a loopback address of its own, with the keys of a
//! place of sealdrop's that nothing else serves, so that every client of `User` reaches it as it reaches a `Site`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sealdrop::cli::demo::place::PARTNER;

use crate::site::{Site, have, is_root};
use crate::user::User;

/// sshd lets in accounts of the machine only; this one is on every machine.
const ACCOUNT: &str = "nobody";

pub struct Reference {
    site: Site,
    sshd: Child,
    /// Below `/run`: sshd takes no folder as a root that others could replace, and `/tmp` is open to all.
    dir: tempfile::TempDir,
}

impl Reference {
    /// `None` where it cannot be: sshd changes accounts and roots only as root.
    pub fn new() -> Option<Self> {
        if !have("sshd") {
            return None;
        }
        if !is_root() {
            eprintln!("not compared with OpenSSH's server: only root can start it with a root folder of its own");
            return None;
        }
        let site = Site::prepared();
        let place = site.place();
        let dir = tempfile::Builder::new().prefix("sealdrop-it-").tempdir_in("/run").expect("a folder below /run");
        let at = |name: &str| dir.path().join(name);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a folder that all may pass");
        fs::create_dir_all(at("root/shared")).expect("a folder");
        give(&at("root/shared"));
        for ending in ["", ".pub"] {
            fs::copy(
                format!("{}{ending}", place.key(PARTNER).display()),
                format!("{}{ending}", place.key(ACCOUNT).display()),
            )
            .expect("a key for the account");
        }
        fs::copy(place.key(PARTNER).with_extension("pub"), at("keys")).expect("the keys that log in");
        let host_key = at("host");
        fs::copy(place.state().join("keys/host_ed25519"), &host_key).expect("a host key");
        let settings = format!(
            "ListenAddress {}\nPort {}\nHostKey {}\nAuthorizedKeysFile {}\nChrootDirectory {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 1000\n\
             Subsystem sftp internal-sftp\nForceCommand internal-sftp\n",
            place.listen().ip(),
            place.listen().port(),
            host_key.display(),
            at("keys").display(),
            at("root").display(),
        );
        fs::write(at("settings"), settings).expect("sshd's settings");
        // Where sshd's unprivileged half lives; an init system would have made it.
        fs::create_dir_all("/run/sshd").expect("/run/sshd");
        let log = fs::File::create(at("log")).expect("a log");
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("settings"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd starts");
        let mut reference = Self { site, sshd, dir };
        reference.wait_until_it_listens();
        Some(reference)
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(self.site.place().listen()).is_err() {
            let ended = self.sshd.try_wait().expect("a child");
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "sshd does not listen: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn user(&self) -> User<'_> {
        User::new(&self.site, ACCOUNT)
    }
}

/// To the account that logs in.
fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("root may give files away");
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

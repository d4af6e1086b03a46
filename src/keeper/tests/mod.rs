//! The keeper's promises at its own level: a real state directory, real keys and a real ledger, no gate and no session.
//! What a session would ask is asked here by its function, so that a hostile order, a crash between two steps and two
//! sessions at once are a line each.

mod admission;
mod alarms;
mod commit;
mod names;
mod reading;
mod recovery;
mod versions;
mod waiting;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::desk::{Client, Refusal};
use super::{GateMail, Keeper, keys, state};
use crate::clock;
use crate::config;
use crate::ipc::jail::{Answer, Commit, Key, Staged};
use crate::names::{Digest, DropId, SessionId};
use crate::seal::{Envelope, FileKey, Head, Identity, Kem, Mode, Sealer, Trailer};
use crate::vpath::VirtualPath;

/// Names in an order that matters: `archive` is looked at before the sender, `radiology` after.
const POLICIES: &[(&str, &str)] = &[
    (
        "partner",
        "[[folder]]\npath = \"/lab\"\nkind = \"drop\"\nto = [\"archive\", \"radiology\"]\nexpire = \"72h\"\n\
         [[folder]]\npath = \"/other\"\nkind = \"drop\"\nto = [\"radiology\"]\nexpire = \"72h\"\n\
         [[folder]]\npath = \"/shared\"\nkind = \"shared\"\n",
    ),
    ("archive", "[inbox]\nmode = \"managed\"\n"),
    ("radiology", "[inbox]\nmode = \"managed\"\n"),
];

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO/6HrxB4Ov2QoZoRHIzGcyvk8VZ9ffSKa8yVeTRsWY2 x";

/// A keeper in a directory of its own.
struct Place {
    dir: tempfile::TempDir,
    keeper: Option<Arc<Keeper>>,
    /// Heard by nobody; open, so that what is sent to the gate goes somewhere.
    mail: Option<GateMail>,
}

fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(text.as_bytes()).unwrap()
}

impl Place {
    fn new() -> Self {
        Self::with(POLICIES)
    }

    fn with(policies: &[(&str, &str)]) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), keeper: None, mail: None };
        let root = place.dir.path();
        let (state, config) = (root.join("state"), root.join("config"));
        fs::create_dir_all(config.join("policies")).unwrap();
        let text = format!("name = \"test\"\nlisten = [\"127.0.0.1:0\"]\nstate = {state:?}\ntest_clock = true\n");
        fs::write(place.config(), text).unwrap();
        place.set_policies(policies);
        state::create(&state).unwrap();
        let settings = config::load_settings(&place.config()).unwrap();
        keys::create(&settings.keys, &settings.host_keys, &settings.root_key, &mut || panic!()).unwrap();
        place.started()
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config/sealdrop.toml")
    }

    /// Writes exactly these policies; they are in force at the next load.
    fn set_policies(&self, policies: &[(&str, &str)]) {
        let dir = self.dir.path().join("config/policies");
        fs::read_dir(&dir).unwrap().for_each(|entry| fs::remove_file(entry.unwrap().path()).unwrap());
        for (user, rest) in policies {
            let text = format!("user = \"{user}\"\n[login]\nkeys = [\"{KEY}\"]\n{rest}");
            let path = dir.join(format!("{user}.toml"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
        }
    }

    fn started(mut self) -> Self {
        let loaded = config::load(&self.config()).unwrap_or_else(|problems| panic!("{}", problems.summary()));
        let (keeper, _, mail) = Keeper::open(&self.config(), loaded.settings, loaded.policy, 0, None).unwrap();
        (self.keeper, self.mail) = (Some(keeper), Some(mail));
        self
    }

    /// As after a crash: nothing is said, nothing is put in order, and the next start mends.
    async fn restart(mut self) -> Self {
        let keeper = self.keeper.take().unwrap();
        keeper.ledger.clone().close();
        drop(Arc::into_inner(keeper).expect("nobody works any more"));
        let place = self.started();
        let worker = Arc::clone(place.keeper());
        let mend = move || {
            super::recovery::mend(&worker, clock::now()).unwrap();
            super::waiting::load(&worker).unwrap();
        };
        tokio::task::spawn_blocking(mend).await.unwrap();
        place
    }

    fn keeper(&self) -> &Arc<Keeper> {
        self.keeper.as_ref().unwrap()
    }

    fn client(&self, user: &str) -> Arc<Client> {
        Arc::new(Client {
            holding: None,
            user: user.parse().unwrap(),
            session: SessionId(1),
            key: None,
            address: [127, 0, 0, 1].into(),
            since: clock::now(),
            refusals: Default::default(),
            openings: Default::default(),
            activity: Default::default(),
        })
    }

    fn on_disk(&self, user: &str, path: &str) -> PathBuf {
        self.dir.path().join("state/jails").join(user).join(path.trim_start_matches('/'))
    }

    /// The names in a folder, sorted.
    fn names(&self, user: &str, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.on_disk(user, folder)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    async fn granted(&self, user: &str, to: &str) -> Staged {
        match super::uploads::stage(self.keeper(), &self.client(user), path(to), None, false).await {
            Ok(Answer::Staged(staged)) => *staged,
            other => panic!("an upload was not granted: {other:?}"),
        }
    }

    /// Stages `content` for `to` as a session would, up to the point where it asks for the commit.
    async fn staged(&self, user: &str, to: &str, content: &[u8]) -> Staging {
        let staged = self.granted(user, to).await;
        let part = self.on_disk(user, ".staging").join(format!("{}.part", staged.drop));
        Staging::write(part, path(to), &staged, content)
    }

    async fn commit(&self, user: &str, staging: &Staging) -> Result<Answer, Refusal> {
        self.commit_file(user, staging, &staging.part).await
    }

    /// Commits another file than was staged.
    async fn commit_file(&self, user: &str, staging: &Staging, file: &Path) -> Result<Answer, Refusal> {
        let file: OwnedFd = File::open(file).unwrap().into();
        super::commit::commit(self.keeper(), &self.client(user), staging.request(), vec![file]).await
    }

    /// All of an upload, to the removal of what was staged.
    async fn put(&self, user: &str, to: &str, content: &[u8]) -> Staging {
        let staging = self.staged(user, to, content).await;
        self.commit(user, &staging).await.unwrap();
        fs::remove_file(&staging.part).unwrap();
        staging
    }

    /// Whether `user` may open what is at `at` now.
    async fn opens(&self, user: &str, at: &str) -> Result<Answer, Refusal> {
        let header = fs::read(self.on_disk(user, at)).unwrap()[..crate::seal::HEADER_LEN].to_vec();
        super::open::open(self.keeper(), &self.client(user), path(at), header).await
    }
}

/// An upload whose bytes are in `.staging`.
struct Staging {
    part: PathBuf,
    path: VirtualPath,
    drop: DropId,
    key: [u8; 32],
    size: u64,
    sha256: [u8; 32],
}

impl Staging {
    fn write(part: PathBuf, path: VirtualPath, staged: &Staged, content: &[u8]) -> Self {
        let key = staged.file_key.as_ref().unwrap().0;
        let file_key = || FileKey::from_bytes(key);
        let head = Head::new(staged.drop, Mode::from_byte(staged.mode).unwrap(), &file_key()).unwrap();
        // Any envelope: the keeper writes its own.
        let someone = Identity::generate(Kem::P256).unwrap().to_recipient();
        let envelope = Envelope::wrap(&head, &file_key(), &[someone]).unwrap();
        let mut bytes = Vec::new();
        let mut sealer = Sealer::begin(head, file_key(), &envelope, &mut bytes);
        sealer.push(content, &mut bytes).unwrap();
        let facts = Trailer {
            sender: staged.sender.to_string(),
            recipients: staged.recipients.iter().map(ToString::to_string).collect(),
            server: staged.server.clone(),
            ..Trailer::default()
        };
        let trailer = sealer.finish(facts, &mut bytes).unwrap();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).unwrap();
        file.write_all(&bytes).unwrap();
        let owner = fs::metadata(part.parent().unwrap()).unwrap();
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::chown(&part, Some(owner.uid()), Some(owner.gid())).unwrap();
        Self { part, path, drop: staged.drop, key, size: trailer.size, sha256: trailer.sha256 }
    }

    fn request(&self) -> Commit {
        Commit {
            path: self.path.clone(),
            drop: self.drop,
            size: self.size,
            sha256: Digest(self.sha256),
            sums: Default::default(),
            file_key: Key(self.key),
            mtime: None,
            opened_at: clock::now(),
            waits: false,
        }
    }
}

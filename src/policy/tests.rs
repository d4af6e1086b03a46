//! The promises of verdicts and logins, on a policy made by hand: nothing outside a folder is ever permitted, what a
//! user does not have is refused like what does not exist, and every refused login looks the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::password::PasswordHash;
use super::*;
use crate::clock::Time;
use crate::names::{Digest, UserName};
use crate::vpath::VirtualPath;

const NOW: Time = Time(1_795_308_143_000);
const KEY: &[u8] = b"acme's key";
const HASH: &str = "$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn path(text: &str) -> VirtualPath {
    VirtualPath::parse(text.as_bytes()).unwrap()
}

fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

fn address() -> IpAddr {
    IpAddr::from([203, 0, 113, 9])
}

fn folder(place: &str, kind: FolderKind) -> Folder {
    Folder {
        path: path(place),
        kind,
        to: Vec::new(),
        expire: Some(Duration::from_secs(3600)),
        accept: Patterns::none(),
        pickups: None,
        refuse: Patterns::none(),
        refuse_phi: Vec::new(),
        deny: Vec::new(),
        max_size: None,
        resume_window: Duration::from_secs(3600),
        finalize: Finalize::Close,
        overwrite: Overwrite::Version,
        sender_delete: SenderDelete::Keep,
        escrow: None,
        end_to_end: false,
        mtime: Mtime::Client,
        digests: Default::default(),
        temp_names: Patterns::temp_names(),
    }
}

fn account(text: &str) -> User {
    let key = PublicKey {
        algorithm: "ssh-ed25519".into(),
        blob: KEY.to_vec(),
        fingerprint: "SHA256:x".into(),
        comment: "".into(),
        expires: None,
    };
    User {
        name: name(text),
        login: Login {
            keys: vec![key],
            authorities: Vec::new(),
            principals: Vec::new(),
            password: None,
            totp: None,
            require: vec![vec![Method::PublicKey]],
            from: vec!["203.0.113.0/24".parse().unwrap()],
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

/// acme: a drop `/radiology` of `*.dcm`, a drop `/deep/lab`, a shared `/desk`, no inbox. lab: an inbox only.
fn policy() -> &'static Policy {
    static POLICY: std::sync::LazyLock<Policy> = std::sync::LazyLock::new(make_policy);
    &POLICY
}

fn make_policy() -> Policy {
    let radiology = Folder {
        accept: Patterns::new(&["*.dcm"], false).unwrap(),
        refuse: Patterns::new(&["secret*"], false).unwrap(),
        max_size: Some(ByteSize(1000)),
        to: vec![name("lab")],
        ..folder("/radiology", FolderKind::Drop)
    };
    let deep = Folder { overwrite: Overwrite::Refuse, ..folder("/deep/lab", FolderKind::Drop) };
    let folders = vec![Arc::new(radiology), Arc::new(deep), Arc::new(folder("/desk", FolderKind::Shared))];
    let acme = User { folders, ..account("acme") };
    let lab = User { inbox: Some(Inbox::Managed { kem: Kem::P256 }), ..account("lab") };
    let mut off = account("off");
    off.login.disabled = true;
    off.login.password = Some(HASH.parse().unwrap());
    let mut old = account("old");
    old.login.expires = Some(NOW);
    // NOW is a Sunday.
    let mut weekdays = account("weekdays");
    weekdays.login.hours = vec![Window::parse("Mon-Sat 00:00-24:00 UTC").unwrap()];
    let mut both = account("both");
    both.login.password = Some(HASH.parse().unwrap());
    both.login.require = vec![vec![Method::PublicKey, Method::Password]];
    Policy::new(Digest([0; 32]), [acme, lab, off, old, weekdays, both])
}

fn asked(user: &str, operation: Operation<'_>) -> Result<Grant, Reason> {
    let user = name(user);
    match decide(policy(), &Facts { user: &user, address: Some(address()), now: NOW }, &operation) {
        Verdict::Permit(grant) => Ok(grant),
        Verdict::Refuse(reason) => Err(reason),
    }
}

fn upload(text: &str) -> Result<Grant, Reason> {
    asked("acme", Operation::Upload { path: &path(text) })
}

fn rename(from: &str, to: &str) -> Result<Grant, Reason> {
    asked("acme", Operation::Rename { from: &path(from), to: &path(to), folder: false })
}

/// Everything that can be asked about one path, and about two.
fn all_operations<'a>(a: &'a VirtualPath, b: &'a VirtualPath) -> Vec<Operation<'a>> {
    vec![
        Operation::Upload { path: a },
        Operation::Deliver { path: a },
        Operation::Read { path: a },
        Operation::List { path: a },
        Operation::Stat { path: a },
        Operation::MakeFolder { path: a },
        Operation::RemoveFolder { path: a },
        Operation::Remove { path: a },
        Operation::SetTimes { path: a },
        Operation::ReadReceipt { path: a },
        Operation::Describe { path: a },
        Operation::Rename { from: a, to: b, folder: false },
        Operation::Rename { from: a, to: b, folder: true },
    ]
}

fn changes(operation: &Operation<'_>) -> bool {
    !matches!(
        operation,
        Operation::Read { .. }
            | Operation::List { .. }
            | Operation::Stat { .. }
            | Operation::ReadReceipt { .. }
            | Operation::Describe { .. }
    )
}

#[test]
fn a_drop_takes_files_and_never_gives_them_back() {
    let drop = path("/radiology/x/a.dcm");
    let elsewhere = path("/radiology/x/b.dcm");
    for operation in all_operations(&drop, &elsewhere) {
        let decided = asked("acme", operation);
        match operation {
            Operation::Read { .. } => assert_eq!(decided.unwrap_err(), Reason::WriteOnly),
            _ => assert!(decided.is_ok(), "{operation:?}"),
        }
    }
}

#[test]
fn a_shared_folder_is_read_and_written() {
    for operation in all_operations(&path("/desk/a"), &path("/desk/b")) {
        assert!(asked("acme", operation).is_ok(), "{operation:?}");
    }
}

#[test]
fn an_inbox_is_read_and_cleared_and_never_written() {
    for operation in all_operations(&path("/inbox/acme/a"), &path("/inbox/acme/b")) {
        let decided = asked("lab", operation);
        match operation {
            Operation::Read { .. } | Operation::List { .. } | Operation::Stat { .. } => assert!(decided.is_ok()),
            Operation::Describe { .. } => assert!(decided.is_ok()),
            Operation::Remove { .. } | Operation::RemoveFolder { .. } => assert!(decided.is_ok()),
            // The receipt was given to the sender.
            Operation::ReadReceipt { .. } => assert_eq!(decided.unwrap_err(), Reason::NotThere),
            _ => assert_eq!(decided.unwrap_err(), Reason::InboxReadOnly, "{operation:?}"),
        }
    }
}

#[test]
fn receipts_are_read_and_never_changed() {
    for operation in all_operations(&path("/receipts/radiology/a.dcm.receipt"), &path("/receipts/b")) {
        let decided = asked("acme", operation);
        match changes(&operation) {
            // A receipt is the last word on a file, and none is said about it.
            false if matches!(operation, Operation::Describe { .. }) => {
                assert_eq!(decided.unwrap_err(), Reason::NotThere);
            }
            false => assert!(matches!(decided.unwrap().place(), Place::Receipts { .. })),
            true => assert_eq!(decided.unwrap_err(), Reason::ReceiptsReadOnly, "{operation:?}"),
        }
    }
}

#[test]
fn what_the_policy_made_stays() {
    for place in ["/", "/radiology", "/deep", "/deep/lab", "/desk"] {
        let place = path(place);
        for operation in [Operation::List { path: &place }, Operation::Stat { path: &place }] {
            assert!(asked("acme", operation).is_ok(), "{operation:?}");
        }
        for operation in [Operation::Remove { path: &place }, Operation::RemoveFolder { path: &place }] {
            assert_eq!(asked("acme", operation).unwrap_err(), Reason::FolderFixed, "{operation:?}");
        }
        assert_eq!(asked("acme", Operation::MakeFolder { path: &place }).unwrap_err(), Reason::FolderThere);
        assert_eq!(asked("acme", Operation::Read { path: &place }).unwrap_err(), Reason::IsFolder);
        assert_eq!(asked("acme", Operation::Upload { path: &place }).unwrap_err(), Reason::IsFolder);
        let elsewhere = path("/desk/x");
        assert_eq!(
            asked("acme", Operation::Rename { from: &place, to: &elsewhere, folder: true }).unwrap_err(),
            Reason::FolderFixed
        );
    }
}

#[test]
fn what_a_user_does_not_have_looks_like_what_does_not_exist() {
    let nothing = (path("/no-such-thing"), path("/no-such-thing/a"));
    // An inbox for one who has none, the staging area, and a folder that is another user's.
    for hidden in ["/inbox", "/.staging", "/.staging-old", "/lab"] {
        let hidden = (path(hidden), path(&format!("{hidden}/a")));
        let pairs = [(&hidden.0, &nothing.0), (&hidden.1, &nothing.1)];
        for (hidden, nothing) in pairs {
            let target = path("/desk/x");
            for (a, b) in all_operations(hidden, &target).into_iter().zip(all_operations(nothing, &target)) {
                let (a, b) = (asked("acme", a).unwrap_err(), asked("acme", b).unwrap_err());
                assert_eq!((a.say(), a.status()), (b.say(), b.status()));
            }
            let (a, b) = (rename("/desk/x", &hidden.to_string()), rename("/desk/x", &nothing.to_string()));
            let (a, b) = (a.unwrap_err(), b.unwrap_err());
            assert_eq!((a.say(), a.status()), (b.say(), b.status()));
        }
    }
    assert_eq!(asked("acme", Operation::Stat { path: &path("/inbox") }).unwrap_err().status(), Status::NoSuchFile);
}

#[test]
fn folders_are_compared_by_whole_names() {
    for near in ["/radiology2/a.dcm", "/radio", "/Radiology/a.dcm", "/deep/lab2/a", "/deep/a"] {
        assert!(upload(near).is_err(), "{near}");
    }
    assert!(upload("/deep/lab/a").is_ok());
}

#[test]
fn names_are_judged_when_they_are_final() {
    assert_eq!(upload("/radiology/a.exe").unwrap_err(), Reason::NotAccepted);
    assert_eq!(upload("/radiology/secret.dcm").unwrap_err(), Reason::Refused("secret*".to_owned()));
    assert!(!upload("/radiology/a.dcm").unwrap().temporary());
    let temp = upload("/radiology/a.exe.filepart").unwrap();
    assert!(temp.temporary());

    let done = rename("/radiology/a.dcm.filepart", "/radiology/a.dcm").unwrap();
    assert!(done.temporary() && !done.target().unwrap().temporary);
    assert_eq!(rename("/radiology/a.exe.filepart", "/radiology/a.exe").unwrap_err(), Reason::NotAccepted);
    assert!(rename("/radiology/a.tmp", "/radiology/b.tmp").unwrap().target().unwrap().temporary);
    // Patterns hold for files only.
    let (from, to) = (path("/radiology/monday"), path("/radiology/tuesday"));
    assert!(asked("acme", Operation::Rename { from: &from, to: &to, folder: true }).is_ok());
    assert!(asked("acme", Operation::MakeFolder { path: &from }).is_ok());
}

#[test]
fn a_rename_stays_in_its_folder() {
    assert_eq!(rename("/radiology/a.dcm", "/desk/a.dcm").unwrap_err(), Reason::OtherFolder);
    assert_eq!(rename("/desk/a.dcm", "/radiology/a.dcm").unwrap_err(), Reason::OtherFolder);
    assert_eq!(rename("/desk/a", "/a").unwrap_err(), Reason::TopFixed);
    assert_eq!(rename("/desk/a", "/receipts/a").unwrap_err(), Reason::ReceiptsReadOnly);
    assert_eq!(rename("/desk/a", "/desk").unwrap_err(), Reason::FolderFixed);
    let (from, into) = (path("/desk/a"), path("/desk/a/b"));
    assert_eq!(
        asked("acme", Operation::Rename { from: &from, to: &into, folder: true }).unwrap_err(),
        Reason::IntoItself
    );
}

#[test]
fn limits_leave_the_least_room() {
    let used = |bytes, files| Usage { bytes, files };
    let grant = upload("/radiology/a.dcm").unwrap();
    assert_eq!(grant.room(used(1 << 40, 1 << 40)), Ok(Room { bytes: 1000, beyond: Reason::TooLarge }));
    assert_eq!(grant.may_replace(), Ok(()));
    let grant = upload("/deep/lab/a").unwrap();
    assert_eq!(grant.room(used(0, 0)), Ok(Room { bytes: u64::MAX, beyond: Reason::TooLarge }));
    assert_eq!(grant.may_replace(), Err(Reason::Exists));

    let mut acme = User::clone(policy().user(&name("acme")).unwrap());
    acme.limits = Limits { bytes: Some(ByteSize(500)), files: Some(3), sessions: None };
    let policy = Policy::new(Digest([0; 32]), [acme]);
    let (user, file) = (name("acme"), path("/radiology/a.dcm"));
    let facts = Facts { user: &user, address: None, now: NOW };
    let Verdict::Permit(grant) = decide(&policy, &facts, &Operation::Upload { path: &file }) else { panic!() };
    assert_eq!(grant.room(used(100, 2)), Ok(Room { bytes: 400, beyond: Reason::NoSpaceLeft }));
    assert_eq!(grant.room(used(500, 2)), Err(Reason::BytesUsedUp));
    assert_eq!(grant.room(used(100, 3)), Err(Reason::FilesUsedUp));
}

#[test]
fn an_account_that_ended_may_nothing_and_hears_one_sentence() {
    let (a, b) = (path("/desk/a"), path("/desk/b"));
    let mut said = Vec::new();
    for operation in all_operations(&a, &b) {
        for user in ["off", "old", "never-was"] {
            let reason = asked(user, operation).unwrap_err();
            said.push((reason.say(), reason.status()));
        }
        let user = name("acme");
        let facts = Facts { user: &user, address: Some(IpAddr::from([198, 51, 100, 1])), now: NOW };
        let Verdict::Refuse(reason) = decide(policy(), &facts, &operation) else { panic!("{operation:?}") };
        said.push((reason.say(), reason.status()));
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
}

/// Without a code there is nothing to be remembered.
fn decided(checked: Checked) -> LoginVerdict {
    match checked {
        Checked::Decided(verdict) => verdict,
        Checked::Code { .. } => panic!("no code was given"),
    }
}

fn attempt<'a>(user: &'a str, from: IpAddr, passed: &'a [Method], credential: Credential<'_>) -> LoginVerdict {
    let facts = LoginFacts { user, address: from, now: NOW, passed };
    match login(policy(), &facts, credential) {
        LoginVerdict::CheckSecret(check) => decided(check.verify(Given::Password("a guess"), None, NOW)),
        verdict => verdict,
    }
}

#[test]
fn every_refused_login_looks_the_same_and_the_log_knows_why() {
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    let cases = [
        ("never-was", address(), LoginRefusal::UnknownUser),
        ("Not/A\0Name", address(), LoginRefusal::UnknownUser),
        ("", address(), LoginRefusal::UnknownUser),
        ("off", address(), LoginRefusal::Disabled),
        ("old", address(), LoginRefusal::Expired),
        ("weekdays", address(), LoginRefusal::Hours),
        ("acme", elsewhere, LoginRefusal::Address),
    ];
    for credential in [Credential::Nothing, Credential::Offer(KEY), Credential::Key(KEY), Credential::Password] {
        let mut outward = Vec::new();
        for (user, from, why) in cases {
            match attempt(user, from, &[], credential) {
                LoginVerdict::Refuse { reason, methods } => {
                    assert_eq!(reason, why, "{user} {credential:?}");
                    outward.push(methods);
                }
                other => panic!("{user} {credential:?}: {other:?}"),
            }
        }
        // One who exists and is wrong in the credential only.
        let wrong = match credential {
            Credential::Offer(_) => Credential::Offer(b"another key"),
            Credential::Key(_) => Credential::Key(b"another key"),
            other => other,
        };
        let LoginVerdict::Refuse { methods, .. } = attempt("acme", address(), &[], wrong) else { panic!() };
        outward.push(methods);
        outward.dedup();
        assert_eq!(outward, [vec![Choice::PublicKey, Choice::Password]]);
    }
}

#[test]
fn a_password_is_work_for_every_name() {
    for user in ["never-was", "acme", "off", "both", ""] {
        let facts = LoginFacts { user, address: address(), now: NOW, passed: &[] };
        let verdict = login(policy(), &facts, Credential::Password);
        let LoginVerdict::CheckSecret(check) = verdict else { panic!("{user}: {verdict:?}") };
        let checked = decided(check.verify(Given::Password("a guess"), None, NOW));
        assert!(matches!(checked, LoginVerdict::Refuse { .. }));
    }
}

#[test]
fn a_key_admits_and_names_itself() {
    assert!(matches!(attempt("acme", address(), &[], Credential::Offer(KEY)), LoginVerdict::Acceptable));
    let LoginVerdict::Admit(admitted) = attempt("acme", address(), &[], Credential::Key(KEY)) else { panic!() };
    let key = admitted.holding().map(|holding| holding.fingerprint.as_str());
    assert_eq!((admitted.user().name.as_str(), key), ("acme", Some("SHA256:x")));
    // A dual-stack socket reports IPv4 like this.
    let mapped: IpAddr = "::ffff:203.0.113.9".parse().unwrap();
    assert!(matches!(attempt("acme", mapped, &[], Credential::Key(KEY)), LoginVerdict::Admit(_)));
}

#[test]
fn a_key_that_has_ended_is_refused_like_one_that_never_was() {
    let mut user = account("acme");
    user.login.keys[0].expires = Some(NOW);
    let policy = Policy::new(Digest([0; 32]), [user]);
    let at = |now: Time| {
        let facts = LoginFacts { user: "acme", address: address(), now, passed: &[] };
        login(&policy, &facts, Credential::Key(KEY))
    };
    assert!(matches!(at(Time(NOW.0 - 1)), LoginVerdict::Admit(_)));
    let LoginVerdict::Refuse { reason: LoginRefusal::KeyExpired, methods } = at(NOW) else { panic!() };
    assert_eq!(methods, policy.choices());
    let user = policy.user(&name("acme")).unwrap();
    let holding = Holding::plain(&user.login.keys[0]);
    assert_eq!(policy.why_not_held(user, &holding, Time(NOW.0 - 1)), None);
    assert_eq!(policy.why_not_held(user, &holding, NOW), Some("the key has expired"));
}

#[test]
fn two_methods_are_passed_in_their_order() {
    let hash = PasswordHash::of("right").unwrap();
    let mut both = account("both");
    both.login.password = Some(hash);
    both.login.require = vec![vec![Method::PublicKey, Method::Password]];
    let policy = Policy::new(Digest([0; 32]), [both]);
    let facts = |passed| LoginFacts { user: "both", address: address(), now: NOW, passed };
    let password = |passed, text| match login(&policy, &facts(passed), Credential::Password) {
        LoginVerdict::CheckSecret(check) => decided(check.verify(Given::Password(text), None, NOW)),
        other => other,
    };

    // The right password first is refused like a wrong one.
    let early = password(&[], "right");
    let LoginVerdict::Refuse { reason: LoginRefusal::Method, methods } = early else { panic!("{early:?}") };
    assert_eq!(methods, policy.choices());

    let first = login(&policy, &facts(&[]), Credential::Key(KEY));
    let LoginVerdict::Partial { passed, methods, .. } = first else { panic!("{first:?}") };
    assert_eq!((passed, methods), (vec![Method::PublicKey], vec![Choice::Password]));
    let passed = [Method::PublicKey];
    let wrong = password(&passed, "wrong");
    assert!(matches!(wrong, LoginVerdict::Refuse { reason: LoginRefusal::WrongPassword, .. }), "{wrong:?}");
    assert!(matches!(password(&passed, "right"), LoginVerdict::Admit(_)));
    // The same key again is no second factor.
    let again = login(&policy, &facts(&passed), Credential::Key(KEY));
    assert!(matches!(again, LoginVerdict::Refuse { reason: LoginRefusal::Method, .. }), "{again:?}");
}

/// Paths near the interesting places, so that chance finds their edges.
fn some_path() -> impl Strategy<Value = VirtualPath> {
    let part = prop_oneof![
        Just("radiology"),
        Just("deep"),
        Just("lab"),
        Just("desk"),
        Just("inbox"),
        Just("receipts"),
        Just(".staging"),
        Just("a.dcm"),
        Just("a.dcm.filepart"),
        Just(".."),
        Just("radiology2"),
        Just("x"),
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| path(&parts.join("/")))
}

fn inside_a_folder(user: &User, path: &VirtualPath) -> bool {
    user.folders.iter().any(|folder| path.below(&folder.path).is_some_and(|below| !below.is_root()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_is_ever_changed_outside_a_folder(a in some_path(), b in some_path(), who in prop_oneof![Just("acme"), Just("lab"), Just("off")]) {
        let policy = policy();
        let user = policy.user(&name(who)).unwrap();
        for operation in all_operations(&a, &b) {
            let Ok(grant) = asked(who, operation) else { continue };
            prop_assert!(!user.login.disabled);
            prop_assert!(!a.components().next().is_some_and(|first| first.starts_with(b".staging")));
            // Clearing one's inbox is the one change elsewhere, and times of a folder itself.
            let clearing = matches!(operation, Operation::Remove { .. } | Operation::RemoveFolder { .. })
                && user.inbox.is_some() && a.below(&path("/inbox")).is_some_and(|below| !below.is_root());
            let times = matches!(operation, Operation::SetTimes { .. }) && user.folders.iter().any(|folder| folder.path == a);
            if changes(&operation) && !clearing && !times {
                prop_assert!(inside_a_folder(user, &a), "{operation:?}");
            }
            if let Operation::Rename { .. } = operation {
                prop_assert!(inside_a_folder(user, &b));
                prop_assert!(grant.target().is_some());
            }
            match grant.place() {
                Place::Folder { folder, below } => prop_assert_eq!(folder.path.append(below).unwrap(), a.clone()),
                Place::Inbox { below } => prop_assert_eq!(path("/inbox").append(below).unwrap(), a.clone()),
                Place::Receipts { below } => prop_assert_eq!(path("/receipts").append(below).unwrap(), a.clone()),
                Place::Root => prop_assert!(a.is_root() || path("/deep") == a),
            }
            if let (Operation::Read { .. }, Some(folder)) = (operation, grant.folder()) {
                prop_assert_eq!(folder.kind, FolderKind::Shared);
            }
        }
    }

    #[test]
    fn any_bytes_as_a_path_are_decided(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(path) = VirtualPath::parse(&bytes) {
            for operation in all_operations(&path, &path) {
                let _ = asked("acme", operation);
            }
        }
    }

    #[test]
    fn any_text_as_a_user_is_refused_alike(user: String, key: Vec<u8>) {
        prop_assume!(policy().users().all(|known| known.name.as_str() != user));
        let verdict = attempt(&user, address(), &[], Credential::Key(&key));
        let LoginVerdict::Refuse { reason: LoginRefusal::UnknownUser, methods } = verdict else { return Err(TestCaseError::fail("admitted")) };
        prop_assert_eq!(methods, policy().choices());
    }
}

#[test]
fn where_a_rename_finishes_an_upload_nothing_is_sent_under_a_final_name() {
    let mut acme = account("acme");
    acme.folders = vec![Arc::new(Folder { finalize: Finalize::Rename, ..folder("/radiology", FolderKind::Drop) })];
    let policy = Policy::new(Digest([0; 32]), [acme]);
    let user = name("acme");
    let facts = Facts { user: &user, address: Some(address()), now: NOW };
    let (last, temporary) = (path("/radiology/a.dcm"), path("/radiology/a.dcm.part"));
    let asked = |operation: Operation<'_>| match decide(&policy, &facts, &operation) {
        Verdict::Permit(grant) => Ok(grant),
        Verdict::Refuse(reason) => Err(reason),
    };
    assert_eq!(asked(Operation::Upload { path: &last }).unwrap_err(), Reason::RenameOnly);
    assert!(asked(Operation::Upload { path: &temporary }).unwrap().temporary());
    assert!(asked(Operation::Rename { from: &temporary, to: &last, folder: false }).is_ok());
    assert!(!asked(Operation::Deliver { path: &last }).unwrap().temporary());
}

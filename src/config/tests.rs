//! The configuration's promises: what is shipped loads, typical mistakes are answered as the transcripts in
//! tests/mistakes show, the reference agrees with the code, and no file whatever makes it panic.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::{FolderKind, Inbox, Method, Mtime, Overwrite};

const NOW: Time = Time(1_795_308_143_000);
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO/6HrxB4Ov2QoZoRHIzGcyvk8VZ9ffSKa8yVeTRsWY2 x";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The shipped files, where this process owns them: a checkout may belong to someone else.
fn shipped() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let policies = place.path().join("policies");
    fs::create_dir(&policies).unwrap();
    fs::copy(repository("config/sealdrop.toml"), place.path().join("sealdrop.toml")).unwrap();
    for entry in fs::read_dir(repository("config/policies")).unwrap() {
        let entry = entry.unwrap();
        // Templates are for those who take them.
        if entry.path().is_file() {
            fs::copy(entry.path(), policies.join(entry.file_name())).unwrap();
        }
    }
    for entry in fs::read_dir(&policies).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o644)).unwrap();
    }
    place
}

/// Whole texts of policy files, by user.
fn parse(files: &[(&str, &str)]) -> (Option<Policy>, Vec<Problem>) {
    let files: Vec<_> = files
        .iter()
        .map(|(user, text)| (PathBuf::from(format!("policies/{user}.toml")), text.as_bytes().to_vec()))
        .collect();
    policy_from(&files, NOW, false, None, Profiles::new())
}

fn user(name: &str, rest: &str) -> String {
    format!("user = \"{name}\"\n[login]\nkeys = [\"{KEY}\"]\n{rest}")
}

fn server(text: &str) -> (Option<Settings>, Vec<Problem>) {
    let reader = Reader::new(Path::new("sealdrop.toml"), Arc::from(text));
    let settings = server::settings(&reader);
    (settings, reader.into_problems())
}

/// Compares with the file, or writes it if `SEALDROP_BLESS` is set.
fn agrees(path: &Path, text: &str) {
    if std::env::var_os("SEALDROP_BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "{} is out of step; SEALDROP_BLESS=1 rewrites it. Now:\n{text}", path.display());
}

#[test]
fn every_shipped_template_gives_a_user_what_it_says_without_a_warning() {
    let place = shipped();
    let config = place.path().join("sealdrop.toml");
    // The profiles that they use, as the sample shows them.
    let text = fs::read_to_string(&config).unwrap();
    let (before, shown) = text.split_once("# [[expiry]]").unwrap();
    let (profiles, after) = shown.split_once("\n\n").unwrap();
    let profiles = format!("[[expiry]]{}", profiles.replace("\n# ", "\n"));
    fs::write(&config, format!("{before}{profiles}\n\n{after}")).unwrap();

    let policies = place.path().join("policies");
    fs::create_dir(policies.join("templates")).unwrap();
    let mut users = Vec::new();
    for entry in fs::read_dir(repository("config/policies/templates")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let copy = policies.join("templates").join(file.file_name().unwrap());
        fs::copy(&file, &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(
            policies.join(format!("u-{name}.toml")),
            format!("user = \"u-{name}\"\ntemplate = \"{name}\"\n[login]\nkeys = [\"{KEY}\"]\n"),
        )
        .unwrap();
        users.push(name);
    }
    users.sort();
    assert_eq!(users, ["auditor", "hospital-batch", "partner-push", "recipient-pull"]);
    let loaded = load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    // One key for four accounts, and inboxes that nobody delivers to yet, are this test's own.
    let own = ["nobody delivers", "this key is also"];
    let others = loaded.warnings.iter().filter(|problem| !own.iter().any(|own| problem.message.contains(own)));
    assert_eq!(others.map(|problem| problem.message.as_str()).collect::<Vec<_>>(), [""; 0]);

    let of = |name: &str| loaded.policy.user(&format!("u-{name}").parse().unwrap()).unwrap();
    let folders = |name: &str| -> Vec<(String, u64)> {
        let folders = of(name).folders.iter();
        folders.map(|folder| (folder.path.to_string(), folder.expire.unwrap().as_secs() / 3600)).collect()
    };
    assert_eq!(folders("partner-push"), [("/to-st-mary/u-partner-push".to_owned(), 48)]);
    assert_eq!(folders("hospital-batch"), [("/studies".to_owned(), 24), ("/research".to_owned(), 72)]);
    for name in ["recipient-pull", "auditor"] {
        assert!(of(name).folders.is_empty() && matches!(of(name).inbox, Some(Inbox::Managed { .. })), "{name}");
    }
}

#[test]
fn a_drop_that_outlasts_its_recipients_key_or_account_is_warned_of() {
    const LAB: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZ/8abTKlF4biCPhyID0J6pDYSlbjMT86nrHOPePYdL lab";
    let warned = |login: &str, expire: &str| -> Vec<String> {
        let lab = format!("user = \"lab\"\n[login]\n{login}\n[inbox]\nmode = \"managed\"\n");
        let folder = "[[folder]]\npath = \"/lab\"\nkind = \"drop\"\nto = [\"lab\"]\n";
        let acme = user("acme", &format!("{folder}expire = \"{expire}\"\n"));
        let (policy, problems) = parse(&[("acme", &acme), ("lab", &lab)]);
        assert!(policy.is_some(), "{problems:?}");
        let outlasts = problems.into_iter().filter(|problem| problem.message.contains("may outlast \"lab\""));
        outlasts.map(|problem| format!("{}:{}", problem.file.display(), problem.line().unwrap())).collect()
    };
    // In two days and some hours from now.
    let ends = format!("keys = [{{ key = \"{LAB}\", expires = 2026-11-25 }}]");
    assert_eq!(warned(&ends, "72h"), ["policies/acme.toml:7"]);
    assert_eq!(warned(&ends, "24h"), [""; 0], "it is gone before");
    assert_eq!(warned(&ends, "never"), [""; 0], "that is everybody's lot");
    let account = format!("keys = [\"{LAB}\"]\nexpires = 2026-11-25");
    assert_eq!(warned(&account, "72h"), ["policies/acme.toml:7"]);
    assert_eq!(warned(&format!("keys = [\"{LAB}\"]"), "72h"), [""; 0]);
}

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let place = shipped();
    let loaded = load(&place.path().join("sealdrop.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", Problems(loaded.warnings));
    let policy = &loaded.policy;
    let names: Vec<&str> = policy.users().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["acme-imaging", "city-lab", "st-mary-radiology", "ward-seven"]);
    let acme = policy.user(&"acme-imaging".parse().unwrap()).unwrap();
    assert_eq!(acme.login.keys.len(), 2);
    assert_eq!(acme.login.require, [[Method::PublicKey]]);
    let radiology = &acme.folders[0];
    assert_eq!(
        (radiology.kind, radiology.overwrite, radiology.mtime),
        (FolderKind::Drop, Overwrite::Version, Mtime::Client)
    );
    assert_eq!(radiology.expire.unwrap().as_secs(), 72 * 3600);
    assert_eq!(radiology.max_size.unwrap().0, 10 << 30);
    assert_eq!(acme.folders[1].temp_names.texts(), crate::policy::patterns::TEMP_NAMES);
    let lab = policy.user(&"city-lab".parse().unwrap()).unwrap();
    assert!(matches!(&lab.inbox, Some(Inbox::Sealed { .. })));
    assert_eq!(loaded.settings.policies, place.path().join("policies"));
}

#[test]
fn the_sample_settings_are_the_defaults() {
    let sample = fs::read_to_string(repository("config/sealdrop.toml")).unwrap();
    let (from_sample, _) = server(&sample);
    let (from_nothing, problems) = server("");
    assert!(problems.is_empty());
    assert_eq!(format!("{:?}", from_sample.unwrap()), format!("{:?}", from_nothing.unwrap()));
}

#[test]
fn the_sample_settings_show_every_key() {
    let sample = fs::read_to_string(repository("config/sealdrop.toml")).unwrap();
    for key in keys::SERVER.iter().flat_map(|section| section.keys) {
        let shown = sample.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("[{}]", key.name))
                || line.starts_with(&format!("[[{}]]", key.name))
                || line.strip_prefix(key.name).is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(shown, "config/sealdrop.toml does not show `{}`", key.name);
    }
}

#[test]
fn typical_mistakes_are_answered_with_how_to_mend_them() {
    let clerk = include_str!("../../tests/mistakes/others/clerk.toml");
    let gone = include_str!("../../tests/mistakes/others/gone.toml");
    let radiology = include_str!("../../tests/mistakes/others/radiology.toml");
    let mut seen = 0;
    for entry in fs::read_dir(repository("tests/mistakes")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let problems = if path.file_stem().unwrap() == "server-settings" {
            server(&text).1
        } else {
            parse(&[("acme", &text), ("clerk", clerk), ("gone", gone), ("radiology", radiology)]).1
        };
        assert!(!problems.is_empty(), "{} is no mistake", path.display());
        agrees(&path.with_extension("txt"), &(Problems(problems).render(false) + "\n"));
        seen += 1;
    }
    assert!(seen >= 10);
}

#[test]
fn the_reference_agrees_with_the_code() {
    let path = repository("docs/policy.md");
    let mut doc = fs::read_to_string(&path).unwrap();
    for (name, sections) in [("sealdrop.toml", &keys::SERVER[..]), ("user.toml", &keys::POLICY[..])] {
        let (open, close) = (format!("<!-- keys of {name} -->\n"), format!("<!-- end of {name} -->"));
        let (Some(start), Some(end)) = (doc.find(&open), doc.find(&close)) else {
            panic!("docs/policy.md has no {open}")
        };
        doc.replace_range(start + open.len()..end, &format!("\n{}", keys::reference(sections)));
    }
    agrees(&path, &doc);
}

#[test]
fn the_published_schemas_agree_with_the_code() {
    for file in schema::File::ALL {
        agrees(&repository("config/schema").join(file.name()), &file.text());
    }
}

#[test]
fn every_default_is_a_value_its_key_takes() {
    for key in keys::SERVER.iter().chain(&keys::POLICY).flat_map(|section| section.keys) {
        let sound = key.default.starts_with('(')
            || match key.takes {
                keys::Takes::Size => key.default.parse::<crate::policy::ByteSize>().is_ok(),
                keys::Takes::Span | keys::Takes::Expiry => crate::policy::units::parse_span(key.default).is_ok(),
                keys::Takes::Count => key.default.parse::<u64>().is_ok(),
                keys::Takes::Flag => matches!(key.default, "true" | "false"),
                keys::Takes::Word(words) => words.contains(&key.default),
                keys::Takes::Text => !key.default.is_empty(),
                keys::Takes::Texts | keys::Takes::Keys | keys::Takes::Words(_) | keys::Takes::Ways(_) => {
                    key.default.starts_with('[')
                }
                keys::Takes::Moment | keys::Takes::Table | keys::Takes::Tables => false,
            };
        assert!(sound, "{}: {}", key.name, key.default);
    }
}

/// Without the list, what was revoked would be let in again.
#[test]
fn a_list_of_what_is_revoked_is_there_and_whole_or_the_configuration_is_not_used() {
    let place = shipped();
    let config = place.path().join("sealdrop.toml");
    let sample = fs::read_to_string(&config).unwrap();
    assert!(sample.contains("# revoked = "));
    fs::write(&config, sample.replace("# revoked = ", "revoked = ")).unwrap();
    let list = place.path().join("revoked");
    let problem = |found: Result<Loaded, Problems>| found.unwrap_err().render(false);
    assert!(problem(load(&config)).contains("there is no such file"));
    fs::write(&list, "# a comment\nnot a key\n").unwrap();
    assert!(problem(load(&config)).contains("line 2 is not a public key"));
    fs::write(&list, b"SSHKRL\n\0\0\0\0\x01").unwrap();
    assert!(problem(load(&config)).contains("broken or cut off"));
    fs::write(&list, format!("{KEY}\n")).unwrap();
    let loaded = load(&config).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = Problems(loaded.warnings).render(false);
    assert!(warnings.contains("ward-seven.toml") && warnings.contains("this key is revoked"), "{warnings}");
}

#[test]
fn principals_without_any_authority_are_an_error() {
    let text = "user = \"acme\"\n[login]\nprincipals = [\"acme\"]\n[[folder]]\npath = \"/desk\"\nkind = \"shared\"\n";
    let files = [(PathBuf::from("policies/acme.toml"), text.as_bytes().to_vec())];
    let (policy, problems) = policy_from(&files, NOW, false, Some(&Trust::default()), Profiles::new());
    assert!(policy.is_none());
    assert_eq!((problems[0].line(), problems[0].message.as_str()), (Some(3), "nobody can certify a key of \"acme\""));
    let authorities = vec![sshkey::parse(KEY).unwrap().key];
    let trust = Trust { authorities, ..Trust::default() };
    let (policy, problems) = policy_from(&files, NOW, false, Some(&trust), Profiles::new());
    assert!(problems.is_empty(), "{}", Problems(problems));
    assert!(policy.unwrap().takes_certificates());
}

#[test]
fn a_key_may_end_and_is_spoken_of_before() {
    let ending = |at: &str| {
        let text = format!(
            "user = \"acme\"\n[login]\nkeys = [\n  \"{KEY}\",\n]\n[[folder]]\npath = \"/desk\"\nkind = \"shared\"\n"
        );
        let text = text.replace(&format!("\"{KEY}\""), &format!("{{ key = \"{KEY}\", expires = {at} }}"));
        let (policy, problems) = parse(&[("acme", &text)]);
        let key = policy.unwrap().user(&"acme".parse().unwrap()).unwrap().login.keys[0].clone();
        (key.expires, problems.iter().map(|problem| (problem.line(), problem.message.clone())).collect::<Vec<_>>())
    };
    // NOW is 2026-11-22.
    assert_eq!(ending("2027-11-22"), (Time::parse_rfc3339("2027-11-22T00:00:00Z"), vec![]));
    assert_eq!(ending("2026-12-01").1, [(Some(4), "this key ends on 2026-12-01T00:00:00Z".to_owned())]);
    assert_eq!(ending("2026-11-01").1, [(Some(4), "this key has expired on 2026-11-01T00:00:00Z".to_owned())]);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let text = user("acme", "[[folder]]\npath = \"/desk\"\nkind = \"shared\"\n");
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let (policy, problems) = parse(&[("acme", &windows)]);
    assert!(problems.is_empty(), "{}", Problems(problems));
    assert_eq!(policy.unwrap().users().len(), 1);
    let (_, problems) = parse(&[("acme", &windows.replace("kind", "knid"))]);
    assert_eq!(problems[0].line(), Some(4));
    assert_eq!((problems[1].line(), problems[1].column()), (Some(6), Some(1)));
}

#[test]
fn the_digest_is_of_names_and_contents_in_order() {
    let text = |name: &str, bytes: &[u8]| PolicyText { name: name.to_owned(), bytes: bytes.to_vec() };
    let (a, b) = (text("a.toml", b"1"), text("b.toml", b"2"));
    let both = digest(&[a.clone(), b.clone()]);
    assert_eq!(both, digest(&[b.clone(), a.clone()]));
    assert_eq!(text_name(Path::new("/etc/policies/a.toml")), "a.toml");
    assert_eq!(text_name(Path::new("policies/templates/a.toml")), "templates/a.toml");
    let mut expected = Vec::new();
    for (name, content) in [("a.toml", "1"), ("b.toml", "2")] {
        for part in [name, content] {
            expected.extend((part.len() as u64).to_be_bytes());
            expected.extend(part.bytes());
        }
    }
    assert_eq!(both.0, <[u8; 32]>::from(Sha256::digest(&expected)));
    assert_ne!(both, digest(&[text("a.toml", b"12"), text("b.toml", b"")]));
}

#[test]
fn files_that_others_may_write_are_refused_with_the_command_that_mends_it() {
    let place = shipped();
    let config = place.path().join("sealdrop.toml");
    let policy = place.path().join("policies/acme-imaging.toml");
    let directory = place.path().join("policies");
    for (path, mode) in [(&policy, 0o646), (&directory, 0o777), (&config, 0o666)] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let problems = load(&config).unwrap_err();
        let hint = format!("run: chmod o-w {}", path.display());
        assert!(problems.0.iter().any(|problem| problem.hint.as_deref() == Some(&hint)), "{problems}");
        // What could not be read is not reported as users who do not exist.
        assert!(!problems.to_string().contains("no user"), "{problems}");
        fs::set_permissions(path, before).unwrap();
    }
    assert!(load(&config).is_ok());
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let place = shipped();
    let problems = load(&place.path().join("other.toml")).unwrap_err().to_string();
    assert!(problems.contains("no such file") && problems.contains("--config"), "{problems}");
    fs::remove_dir_all(place.path().join("policies")).unwrap();
    let problems = load(&place.path().join("sealdrop.toml")).unwrap_err().to_string();
    assert!(problems.contains("mkdir"), "{problems}");
    fs::create_dir(place.path().join("policies")).unwrap();
    fs::write(place.path().join("policies/acme.tml"), "").unwrap();
    let loaded = load(&place.path().join("sealdrop.toml")).unwrap();
    let said = Problems(loaded.warnings).to_string();
    assert!(said.contains("nobody can log in") && said.contains("this is not read"), "{said}");
}

#[test]
fn a_message_never_carries_control_characters_to_the_terminal() {
    let text = user("acme", "\"\\u001b[31mred\" = 1\n");
    let (_, problems) = parse(&[("acme", &text)]);
    assert!(!Problems(problems).render(false).contains('\u{1b}'));
}

#[test]
fn a_log_gets_one_line_that_says_where() {
    let text = user("acme", "knid = 1\n\"a\\nb\" = 2\n");
    let (_, problems) = parse(&[("acme", &text)]);
    let summary = Problems(problems.clone()).summary();
    assert_eq!(summary, "acme.toml:4:1: unknown key `knid` in [login] (and 1 more)");
    assert!(!problems[1].one_line().contains('\n'));
}

#[test]
fn what_is_legal_but_unwise_is_said() {
    let acme = user(
        "acme",
        "[[folder]]\npath = \"/a\"\nkind = \"shared\"\n[[folder]]\npath = \"/A\"\nkind = \"drop\"\nto = [\"acme\"]\nexpire = \"1h\"\n[inbox]\nmode = \"managed\"\n",
    );
    let old = user("old", "expires = 2020-01-01\n");
    let (policy, problems) = parse(&[("acme", &acme), ("old", &old)]);
    assert!(policy.is_some());
    let said = Problems(problems).to_string();
    for words in ["case of letters", "delivers to itself", "has expired", "sees nothing", "also a key of \"acme\""] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_may_be_a_secret_is_never_shown() {
    for text in [
        user("acme", "password = \"hunter2\"\n"),
        user("acme", "password = \"hunter2\n"),
        user("acme", "password = \"hunter2\"\npassword = 3\n"),
        user("acme", "\n").replace(KEY, "b3BlbnNzaC1rZXkt hunter2"),
        user("acme", "[inbox]\nmode = \"sealed\"\nkey = \"SEALDROP-IDENTITY-1HUNTER2\"\n"),
    ] {
        let (policy, problems) = parse(&[("acme", &text)]);
        let shown = Problems(problems.clone()).render(false).to_lowercase();
        assert!(policy.is_none() && !shown.contains("hunter2"), "{shown}");
        assert!(problems.iter().all(|problem| !problem.line_text().unwrap_or("").to_lowercase().contains("hunter2")));
    }
}

#[test]
fn the_keys_of_a_folders_recipients_go_into_one_envelope_or_the_policy_is_refused() {
    use crate::seal::{Identity, Kem};
    let hybrid = Identity::generate(Kem::XWing).unwrap().to_recipient().to_string();
    let sealed = |key: &str| format!("[inbox]\nmode = \"sealed\"\nkey = \"{key}\"\n");
    let mut files: Vec<(String, String)> = Vec::new();
    for number in 0..7 {
        let managed = "[inbox]\nmode = \"managed\"\nkem = \"mlkem768-p256\"\n";
        let inbox = if number == 3 { managed.to_owned() } else { sealed(&hybrid) };
        let name = format!("lab{number}");
        files.push((name.clone(), user(&name, &inbox)));
    }
    files.push(("ssh".into(), user("ssh", &sealed(KEY))));
    let told = |to: &str| {
        let folder = format!("[[folder]]\npath = \"/a\"\nkind = \"drop\"\nto = [{to}]\nexpire = \"1h\"\n");
        let mut all: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let acme = user("acme", &folder);
        all.push(("acme", &acme));
        let (policy, problems) = parse(&all);
        (policy.is_some(), Problems(problems).to_string())
    };
    let six = (0..6).map(|number| format!("\"lab{number}\"")).collect::<Vec<_>>().join(", ");
    let (fits, said) = told(&six);
    assert!(fits && said.contains("post-quantum keys are experimental") && !said.contains("weakest"), "{said}");
    let (fits, said) = told(&format!("{six}, \"lab6\""));
    assert!(!fits && said.contains("do not fit"), "{said}");
    let (fits, said) = told("\"lab0\", \"ssh\"");
    assert!(fits && said.contains("as strong as the weakest"), "{said}");
}

#[test]
fn dates_are_exact_moments() {
    let expires = |text: &str| {
        let (policy, problems) =
            parse(&[("acme", &user("acme", &format!("expires = {text}\n[inbox]\nmode = \"managed\"\n")))]);
        match policy {
            Some(policy) => Ok(policy.users().next().unwrap().login.expires.unwrap().rfc3339()),
            None => Err(problems[0].message.clone()),
        }
    };
    assert_eq!(expires("2027-01-01").as_deref(), Ok("2027-01-01T00:00:00Z"));
    assert_eq!(expires("2027-01-01T18:00:00+01:00").as_deref(), Ok("2027-01-01T17:00:00Z"));
    assert!(expires("2027-01-01T18:00:00").unwrap_err().contains("any zone"));
    assert!(expires("\"2027-01-01\"").is_err() && expires("12:00:00").is_err());
}

#[test]
fn an_account_may_have_a_password_alone() {
    let hash = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for keys in ["", "keys = []\n"] {
        let text = format!("user = \"acme\"\n[login]\n{keys}password = \"{hash}\"\n[inbox]\nmode = \"managed\"\n");
        let (policy, problems) = parse(&[("acme", &text)]);
        let user = policy.unwrap_or_else(|| panic!("{}", Problems(problems))).users().next().cloned().unwrap();
        assert_eq!(user.login.require, [[Method::Password]]);
    }
}

#[test]
fn a_password_hash_that_everyone_can_read_is_warned_of() {
    let place = shipped();
    let path = place.path().join("policies/acme.toml");
    let hash = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    fs::write(&path, format!("user = \"acme\"\n[login]\npassword = \"{hash}\"\nfrom = [\"10.0.0.1\"]\n[[folder]]\npath = \"/desk\"\nkind = \"shared\"\n")).unwrap();
    for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load(&place.path().join("sealdrop.toml")).unwrap().warnings.len(), warnings);
    }
}

#[test]
fn alternatives_are_lists_of_lists() {
    let require = |value: &str| {
        let hash = "$argon2id$v=19$m=65536,t=3,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let rest = format!("password = \"{hash}\"\nrequire = {value}\n[inbox]\nmode = \"managed\"\n");
        let (policy, problems) = parse(&[("acme", &user("acme", &rest))]);
        policy.map(|policy| policy.users().next().unwrap().login.require.clone()).ok_or(problems)
    };
    assert_eq!(require("[\"publickey\", \"password\"]").unwrap(), [[Method::PublicKey, Method::Password]]);
    assert_eq!(require("[[\"publickey\"], [\"password\"]]").unwrap(), [[Method::PublicKey], [Method::Password]]);
    for bad in [
        "[]",
        "[[]]",
        "[\"totp\"]",
        "\"publickey\"",
        "[[\"password\"], \"publickey\"]",
        "[\"password\", \"password\"]",
        "[[\"password\"], [\"password\", \"publickey\"]]",
    ] {
        assert!(require(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_whatever_make_it_panic(bytes: Vec<u8>, text in "(\\PC|[\\[\\]=\"\n\r\t#.{}a-z]){0,80}") {
        for content in [bytes, text.into_bytes()] {
            let files = [(PathBuf::from("policies/acme.toml"), content.clone())];
            let (policy, problems) = policy_from(&files, NOW, false, None, Profiles::new());
            prop_assert!(policy.is_some() || any_error(&problems));
            let _ = Problems(problems).render(true);
            if let Ok(text) = source::text(Path::new("sealdrop.toml"), &content) {
                let reader = Reader::new(Path::new("sealdrop.toml"), text);
                let settings = server::settings(&reader);
                let problems = reader.into_problems();
                prop_assert!(settings.is_some() || any_error(&problems));
                let _ = Problems(problems).render(false);
            }
        }
    }

    /// A good file with one part of it replaced: what a slip of the editor makes.
    #[test]
    fn no_slip_in_a_good_file_makes_it_panic(at in 0usize..3000, cut in 0usize..40, put in "(\\PC|[\\[\\]=\"\n]){0,12}") {
        let good = include_str!("../../config/policies/acme-imaging.toml");
        let floor = |mut at: usize| {
            at = at.min(good.len());
            while !good.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let bad = format!("{}{put}{}", &good[..floor(at)], &good[floor(at + cut)..]);
        let files = [(PathBuf::from("policies/acme-imaging.toml"), bad.into_bytes())];
        let (policy, problems) = policy_from(&files, NOW, false, None, Profiles::new());
        prop_assert!(policy.is_some() != any_error(&problems));
        let _ = Problems(problems).render(true);
    }
}

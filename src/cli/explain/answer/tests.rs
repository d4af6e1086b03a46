//! Answers name the line that decides, and say what follows from it.

use std::path::Path;

use super::*;
use crate::config;
use crate::policy::PolicyText;

/// What the shipped samples answer.
fn ask(words: &str, from: Option<&str>, at: &str) -> Answer {
    ask_edited(words, from, at, &|text| text)
}

fn ask_edited(words: &str, from: Option<&str>, at: &str, edit: &dyn Fn(String) -> String) -> Answer {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies");
    let mut texts: Vec<PolicyText> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            PolicyText { name, bytes: std::fs::read(&path).unwrap() }
        })
        .collect();
    texts.sort_by(|a, b| a.name.cmp(&b.name));
    let hours = "# hours = [";
    for text in &mut texts {
        let sample = String::from_utf8(text.bytes.clone()).unwrap();
        text.bytes = edit(sample.replace(hours, "hours = [")).into_bytes();
    }
    let policy = config::policy_of(&texts).unwrap();
    let words: Vec<&str> = words.split(' ').collect();
    let path = |n: usize| words.get(n).map(|path| VirtualPath::parse(path.as_bytes()).unwrap());
    let question = Question {
        user: words[0].parse().unwrap(),
        operation: <Asked as clap::ValueEnum>::from_str(words[1], false).unwrap(),
        path: path(2).unwrap_or_else(VirtualPath::root),
        to: path(3),
        from: from.map(|from| from.parse().unwrap()),
        at: Time::parse_rfc3339(at).unwrap(),
        folder: false,
    };
    let places = Places::of(&question.user, &policy.texts, Path::new("policies"));
    answer(&policy, places.as_ref(), &question)
}

const FRIDAY_EVENING: &str = "2026-11-27T19:00:00Z";
const NOON: &str = "2026-11-27T12:00:00Z";

/// The line of the sample that begins so, after what comes before it.
fn line(file: &str, key: &str) -> usize {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies").join(file));
    1 + text.unwrap().lines().position(|line| line.trim_start_matches("# ").starts_with(key)).unwrap()
}

#[test]
fn an_upload_says_to_whom_it_is_sealed_where_it_arrives_and_when_it_ends() {
    let answer = ask("acme-imaging put /radiology/2026/a.DCM", Some("203.0.113.9"), FRIDAY_EVENING);
    assert!(answer.permitted);
    assert_eq!(answer.rule, "a drop folder takes files");
    assert_eq!(
        (answer.decided[0].key.as_str(), answer.decided[0].line),
        ("folder.kind", Some(line("acme-imaging.toml", "kind")))
    );
    assert_eq!((answer.sealed_to[0].user.as_str(), answer.sealed_to[0].mode), ("st-mary-radiology", "managed"));
    assert_eq!(answer.delivered[0].path, "/inbox/acme-imaging/2026/a.DCM");
    assert_eq!(answer.expiry.as_ref().unwrap().at.as_deref(), Some("2026-11-30T19:00:00Z"));
    assert!(answer.limits.contains(&("max_size", "10 GiB".to_owned())), "{:?}", answer.limits);
    assert!(answer.login.unwrap().permitted);
    let lab = ask("acme-imaging put /lab/a", None, NOON);
    assert_eq!(lab.sealed_to[0].mode, "sealed");
    let shared = ask("ward-seven put /desk/a", None, NOON);
    assert_eq!((shared.sealed_to[0].user.as_str(), shared.expiry.unwrap().words().as_str()), ("ward-seven", "never"));
    assert!(shared.delivered.is_empty());
}

#[test]
fn a_temp_name_is_delivered_by_its_rename() {
    let put = ask("acme-imaging put /radiology/a.dcm.filepart", None, NOON);
    assert!(put.permitted && put.delivered.is_empty());
    assert_eq!(put.decided[1].key, "folder.temp_names");
    let rename = ask("acme-imaging rename /radiology/a.dcm.filepart /radiology/a.dcm", None, NOON);
    assert!(rename.permitted);
    assert_eq!(rename.delivered[0].path, "/inbox/acme-imaging/a.dcm");
    let again = ask("acme-imaging rename /radiology/a.dcm /radiology/b.dcm", None, NOON);
    assert!(again.permitted && again.delivered.is_empty());
}

#[test]
fn finalize_says_when_an_upload_is_delivered() {
    let with = |finalize: &str, words: &str| {
        let edit = |text: String| text.replace("\"close\"", &format!("\"{finalize}\""));
        ask_edited(words, None, NOON, &edit)
    };
    let quiet = with("quiet 5min", "acme-imaging put /radiology/a.dcm");
    assert!(quiet.permitted && quiet.then.iter().any(|then| then.contains("for 5min")), "{:?}", quiet.then);
    let rename = with("rename", "acme-imaging put /radiology/a.dcm");
    assert!(!rename.permitted);
    assert_eq!(rename.decided[0].key, "folder.finalize");
    assert!(with("rename", "acme-imaging put /radiology/a.dcm.part").permitted);
}

#[test]
fn a_refusal_names_the_key_that_decides_and_what_the_client_hears() {
    for (words, from, key) in [
        ("acme-imaging put /radiology/a.exe", None, "folder.accept"),
        ("acme-imaging put /radiology/a.exe.zip", None, "folder.refuse"),
        ("acme-imaging get /radiology/a.dcm", None, "folder.kind"),
        ("acme-imaging remove /radiology", None, "folder.path"),
        ("acme-imaging rename /radiology/a.dcm /lab/a.dcm", None, "folder.path"),
        ("acme-imaging put /radiology/a.dcm", Some("198.51.100.1"), "login.from"),
        ("st-mary-radiology put /inbox/a", None, "inbox.mode"),
    ] {
        let answer = ask(words, from, NOON);
        assert!(!answer.permitted && answer.client.is_some(), "{words}");
        assert_eq!(answer.decided[0].key, key, "{words}");
        assert!(answer.decided[0].line.is_some(), "{words}");
    }
    let accept = ask("acme-imaging put /radiology/a.exe", None, NOON);
    assert_eq!(accept.decided[0].line, Some(line("acme-imaging.toml", "accept")));
    let nowhere = ask("acme-imaging put /etc/passwd", None, NOON);
    assert_eq!(nowhere.client.unwrap().status, "no such file");
    assert!(nowhere.then[0].contains("/radiology, /lab"), "{:?}", nowhere.then);
    assert_eq!(ask("nobody-here put /a/b", None, NOON).rule, "the user is no longer in the policy");
}

#[test]
fn hours_close_the_door_and_not_an_open_session() {
    let login = ask("acme-imaging login", None, NOON);
    assert!(!login.permitted);
    assert_eq!(
        (login.decided[0].key.as_str(), login.rule.as_str()),
        ("login.hours", "the user may not log in at this hour")
    );
    let put = ask("acme-imaging put /lab/a", None, NOON);
    assert!(put.permitted && !put.login.unwrap().permitted);
    let evening = ask("acme-imaging login", None, FRIDAY_EVENING);
    assert!(evening.permitted && evening.login.unwrap().keys[1].leads_to == "logs in");
    assert!(!ask("acme-imaging login", Some("198.51.100.1"), FRIDAY_EVENING).permitted);
    assert_eq!(ask("nobody-here login", None, NOON).rule, "no such user");
}

#[test]
fn an_inbox_says_who_opens_what_is_pulled() {
    assert!(ask("st-mary-radiology get /inbox/acme-imaging/a", None, NOON).then[0].contains("the server opens it"));
    assert!(ask("city-lab get /inbox/acme-imaging/a.sealed", None, NOON).then[0].contains("sealdrop open"));
}

//! Separated duties: a Unix group is a role on the admin socket, each is refused what is not theirs, and the log says who
//! wanted it.

use std::fs;
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{Site, is_root};

/// Groups that every Debian has, and nobody's.
const ADMIN: &str = "games";
const AUDITOR: &str = "audio";
const CUSTODIAN: &str = "video";

/// Somebody of no account, in these groups.
const UID: &str = "54321";

struct Divided(Site);

/// `None` where this process cannot be somebody else.
fn divided(root: &str) -> Option<Divided> {
    if !is_root() {
        eprintln!("only root can give commands as members of several groups");
        return None;
    }
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    let roles = format!("[roles]\nadmin = \"{ADMIN}\"\nauditor = \"{AUDITOR}\"\ncustodian = \"{CUSTODIAN}\"\n{root}\n");
    fs::write(site.place().config(), format!("{config}\n{roles}")).unwrap();
    site.start().unwrap();
    site.let_others_pass();
    Some(Divided(site))
}

impl Divided {
    /// A command of somebody in these groups.
    fn by(&self, groups: &[&str], words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={UID}"), "--regid=54321"]);
        match groups {
            [] => command.arg("--clear-groups"),
            groups => command.arg(format!("--groups={}", groups.join(","))),
        };
        command.arg(self.0.place().dir().join("sealdrop")).args(words).arg("--admin").arg(self.0.place().admin());
        run(command, b"")
    }

    fn refusals(&self) -> Vec<(String, String)> {
        let mut events = self.0.events_of("admin-command", "");
        events.retain(|event| event["outcome"] == "refused");
        let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
        events.iter().map(|event| (text(event, "why"), text(event, "detail"))).collect()
    }
}

#[test]
fn each_role_is_given_what_is_its_own_and_refused_the_rest() {
    let Some(at) = divided("") else { return };
    at.0.partner().put(&at.0.file("a.dcm", b"x"), "/radiology/a.dcm");
    let shred = ["shred", "partner:/radiology/a.dcm", "--reason", "by mistake"];
    for group in [ADMIN, AUDITOR, CUSTODIAN] {
        at.by(&[group], &["status"]).ok();
        at.by(&[group], &["drops"]).ok();
    }
    at.by(&[ADMIN], &["reload", "--why", "ticket 4"]).ok();
    at.by(&[AUDITOR], &["audit"]).ok();
    at.by(&[ADMIN], &shred).fails_with(1);
    at.by(&[CUSTODIAN], &["audit"]).fails_with(1);
    let told = at.by(&[AUDITOR], &["reload"]).fails_with(1);
    assert!(told.contains("a reload is for: admin; you are: auditor") && told.contains("hint: [roles]"), "{told}");
    // One person may be two.
    at.by(&[AUDITOR, ADMIN], &["sweep"]).ok();
    let refused = at.refusals();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].1.starts_with(&format!("shredding drops, by uid {UID}")), "{refused:?}");
    assert!(refused[2].0.contains("you are: auditor"), "{refused:?}");
    at.by(&[CUSTODIAN], &shred).ok();
    let done = at.0.events_of("admin-command", "").pop().unwrap();
    assert!(
        done["detail"].as_str().unwrap().ends_with(&format!("shred of 1 drops, by uid {UID}: by mistake")),
        "{done}"
    );
}

#[test]
fn nobody_else_reaches_the_socket_and_root_has_what_the_settings_leave_it() {
    let Some(at) = divided("root = [\"admin\", \"auditor\"]") else { return };
    let told = at.by(&[], &["status"]).fails_with(3);
    assert!(told.contains("Permission denied"), "{told}");
    let told = at.by(&["daemon"], &["status"]).fails_with(3);
    assert!(told.contains("Permission denied"), "{told}");
    at.0.sealdrop(&["reload"]).ok();
    at.0.sealdrop(&["rotate", "receipt", "--reason", "habit"]).fails_with(1);
    assert!(at.refusals()[0].1.starts_with("replacing keys, by uid 0 (root)"), "{:?}", at.refusals());
    at.by(&[CUSTODIAN], &["rotate", "receipt", "--reason", "an admin left"]).ok();
    let begun = at.0.events_of("rotation-begun", "").pop().unwrap();
    assert_eq!(begun["detail"], format!("receipt key, by uid {UID}: an admin left"));
}

#[test]
fn a_group_that_does_not_exist_and_a_key_replaced_for_no_reason_are_refused() {
    let mut site = Site::prepared();
    let config = fs::read_to_string(site.place().config()).unwrap();
    fs::write(site.place().config(), format!("{config}\n[roles]\nauditor = \"no-such-group\"\n")).unwrap();
    let told = site.start().unwrap_err().message;
    assert!(told.contains("there is no group `no-such-group`"), "{told}");
    fs::write(site.place().config(), config).unwrap();
    site.start().unwrap();
    let told = site.sealdrop(&["rotate", "root"]).fails_with(2);
    assert!(told.contains("--reason"), "{told}");
    assert!(site.sealdrop(&["rotate", "root", "--reason", " "]).fails_with(1).contains("needs a reason"));
    site.sealdrop(&["rotate", "status"]).ok();
}

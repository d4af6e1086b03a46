//! `sealdrop plan`: what a reload would change, in words: whose rights, which way. It compares the policy in force, asked of
//! the daemon, or another directory, with the files on disk. It changes nothing.

use std::path::PathBuf;

use serde_json::json;

use crate::config;
use crate::ipc::admin::ToKeeper;
use crate::names::Digest;
use crate::policy::{Change, Effect, Policy, PolicyText, compare};

use super::admin::{Daemon, Keeper};
use super::failure::Failure;
use super::say::{Say, Tone, count};
use super::{Ending, config_failure, policy};

/// Tell whose rights the edited policy files change
#[derive(clap::Args)]
#[command(after_help = "Compares policies; settings of sealdrop.toml change at the next start. \
Ends with 0 if nobody's rights change, with 4 if any do.")]
pub struct Plan {
    #[command(flatten)]
    daemon: Daemon,
    /// Compare with the policies in this directory instead of those in force
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
}

/// A reload in the middle of a reading is rare, and a second one in the middle of the next is not to be waited out.
const READINGS_MAX: u32 = 3;

impl Plan {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let config = &self.daemon.config;
        // First: a policy that cannot be used is the answer, whatever runs.
        let new = config::load(config).map_err(|problems| config_failure(config, &problems))?;
        let (before, old) = match &self.against {
            Some(directory) => {
                let old = config::load_policies(directory, &new.settings).map_err(|problems| {
                    let shown = directory.display();
                    Failure::new(format_args!("{shown} cannot be compared with:\n{}", problems.render(false)))
                        .hint("mend it, or name another directory of policies")
                })?;
                (directory.display().to_string(), old)
            }
            None => ("in force".to_owned(), in_force(&mut self.daemon.connect()?)?),
        };
        let after = new.settings.policies.display().to_string();
        let changes = compare(&old, &new.policy);
        if say.is_json() {
            say.json(&json!({
                "before": { "what": before, "policy": old.digest.to_string() },
                "after": { "what": after, "policy": new.policy.digest.to_string() },
                "wider": changes.iter().filter(|change| change.effect == Effect::Wider).count(),
                "changes": changes.iter().map(as_json).collect::<Vec<_>>(),
            }));
        } else {
            tell(say, &changes, old.digest == new.policy.digest);
            say.facts(&[
                ("before", format!("{}, {before}", old.digest)),
                ("after", format!("{}, {after}", new.policy.digest)),
            ]);
        }
        if changes.is_empty() { Ok(()) } else { Err(Ending::attention()) }
    }
}

/// The policy that the daemon decides by.
fn in_force(keeper: &mut Keeper) -> Result<Policy, Ending> {
    for _ in 0..READINGS_MAX {
        if let Some((digest, texts)) = read(keeper)? {
            let policy = config::policy_of(&texts).map_err(|problems| {
                Failure::new(format_args!("this command cannot read the policy in force: {}", problems.summary()))
                    .hint("is the running daemon of the same version? (`sealdrop status`, `sealdrop --version`)")
            })?;
            if policy.digest != digest {
                return Err(Failure::new("the daemon's policy is not the one whose digest it names")
                    .hint("is the running daemon of the same version? (`sealdrop status`, `sealdrop --version`)")
                    .into());
            }
            return Ok(policy);
        }
    }
    Err(Failure::new("the policy in force changes while it is read").hint("try again when the reloads are over").into())
}

/// `None` if a reload came between two pages.
fn read(keeper: &mut Keeper) -> Result<Option<(Digest, Vec<PolicyText>)>, Ending> {
    let (digests, texts) = policy::texts(keeper, |after| ToKeeper::Policy { after })?;
    Ok(match digests.as_slice() {
        [digest] => Some((*digest, texts)),
        _ => None,
    })
}

fn tell(say: &Say, changes: &[Change], same: bool) {
    let mut user = None;
    for change in changes {
        if user != Some(&change.user) {
            say.line(say.tone(Tone::Strong, &change.user));
            user = Some(&change.user);
        }
        let folder = change.folder.as_ref().map_or_else(String::new, |path| format!("{path}: "));
        let mark = match change.effect {
            Effect::Wider => say.tone(Tone::Unsure, "!"),
            Effect::Narrower => "-".to_owned(),
            Effect::Other => "=".to_owned(),
        };
        say.line(format_args!("  {mark} {folder}{}", change.say));
    }
    let wider = changes.iter().filter(|change| change.effect == Effect::Wider).count();
    match (changes.len(), same) {
        (0, true) => say.line("nothing changes: the files are the same"),
        (0, false) => say.line("nobody's rights change: the files differ in comments, order or layout"),
        (all, _) => {
            let all = count(all as u64, "change");
            say.line(format_args!("{all}, {wider} of them giving more (!); - takes away, = does neither"));
        }
    }
}

fn as_json(change: &Change) -> serde_json::Value {
    let effect = match change.effect {
        Effect::Wider => "wider",
        Effect::Narrower => "narrower",
        Effect::Other => "other",
    };
    json!({
        "user": change.user, "folder": change.folder.as_ref().map(ToString::to_string), "key": change.key,
        "effect": effect, "say": change.say,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = r#"
user = "acme"
[login]
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO/6HrxB4Ov2QoZoRHIzGcyvk8VZ9ffSKa8yVeTRsWY2 one",
]
from = ["203.0.113.0/24"]
hours = ["Mon-Fri 18:00-06:00 UTC"]
expires = 2030-01-01
[limits]
bytes = "10 GiB"
sessions = 8
[[folder]]
path = "/a"
kind = "drop"
to = ["lab"]
expire = "72h"
accept = ["*.dcm"]
refuse = ["x*"]
max_size = "1 GiB"
"#;
    const SECOND: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFcYizeBcGOaXgIJ/GeMA6KMTGTHeSZ1TbsknHBxIMcm two";

    fn recipient(name: &str) -> String {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIZ/8abTKlF4biCPhyID0J6pDYSlbjMT86nrHOPePYdL";
        format!("user = \"{name}\"\n[login]\nkeys = [\"{key}\"]\n[inbox]\nmode = \"managed\"\n")
    }

    fn policy(acme: &str, others: &[(&str, String)]) -> Policy {
        let mut texts = vec![PolicyText { name: "acme.toml".to_owned(), bytes: acme.as_bytes().to_vec() }];
        let named = |(name, text): &(&str, String)| PolicyText {
            name: format!("{name}.toml"),
            bytes: text.clone().into_bytes(),
        };
        texts.extend(others.iter().map(named));
        config::policy_of(&texts).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn others() -> [(&'static str, String); 2] {
        [("clinic", recipient("clinic")), ("lab", recipient("lab"))]
    }

    /// What changes when `old` in acme's file becomes `new`.
    fn edited(old: &str, new: &str) -> Vec<(Effect, &'static str, String)> {
        assert!(ACME.contains(old), "{old}");
        let changes = compare(&policy(ACME, &others()), &policy(&ACME.replace(old, new), &others()));
        changes.into_iter().map(|change| (change.effect, change.key, change.say)).collect()
    }

    #[test]
    fn each_edit_is_one_sentence_that_says_which_way_it_goes() {
        use Effect::{Narrower, Other, Wider};
        let more_keys = format!("keys = [\n\"{SECOND}\",");
        let offline = crate::seal::Identity::generate(crate::seal::Kem::P256).unwrap().to_recipient();
        let escrow = format!("escrow = \"{offline}\"\nmax_size");
        for (old, new, effect, key, says) in [
            ("keys = [", more_keys.as_str(), Wider, "login.keys", "a key more: SHA256:"),
            ("[login]", "[login]\ndisabled = true", Narrower, "login.disabled", "disabled"),
            ("from = [\"203.0.113.0/24\"]", "", Wider, "login.from", "203.0.113.0/24 -> anywhere"),
            ("113.0/24", "113.0/25", Narrower, "login.from", "203.0.113.0/25"),
            ("113.0/24", "112.0/23", Wider, "login.from", "203.0.112.0/23"),
            ("113.0/24\"]", "113.0/24\", \"::1\"]", Wider, "login.from", "::1"),
            ("hours = [\"Mon-Fri 18:00-06:00 UTC\"]", "", Wider, "login.hours", "-> at any time"),
            ("06:00 UTC\"", "06:00 UTC\", \"Sat 00:00-24:00 UTC\"", Wider, "login.hours", "Sat"),
            ("2030", "2029", Narrower, "login.expires", "the account ends: 2030"),
            ("expires = 2030-01-01", "", Wider, "login.expires", "-> never"),
            ("10 GiB", "20 GiB", Wider, "limits.bytes", "bytes: 10 GiB -> 20 GiB"),
            ("bytes = \"10 GiB\"", "", Wider, "limits.bytes", "-> no limit"),
            ("sessions = 8", "sessions = 4", Narrower, "limits.sessions", "sessions: 8 -> 4"),
            ("72h", "48h", Narrower, "folder.expire", "72h -> 48h"),
            ("\"72h\"", "\"never\"", Wider, "folder.expire", "72h -> never"),
            ("[\"*.dcm\"]", "[\"*.dcm\", \"*.zip\"]", Wider, "folder.accept", "*.dcm, *.zip"),
            ("accept = [\"*.dcm\"]", "", Wider, "folder.accept", "-> every name"),
            ("refuse = [\"x*\"]", "", Wider, "folder.refuse", "x* -> none"),
            ("[\"x*\"]", "[\"x*\", \"y*\"]", Narrower, "folder.refuse", "y*"),
            ("1 GiB", "512 MiB", Narrower, "folder.max_size", "1 GiB -> 512 MiB"),
            ("max_size", "overwrite = \"refuse\"\nmax_size", Narrower, "folder.overwrite", "version -> refuse"),
            ("max_size", "sender_delete = \"shred\"\nmax_size", Wider, "folder.sender_delete", "keep -> shred"),
            ("max_size", escrow.as_str(), Wider, "folder.escrow", "nobody -> sealdrop1"),
            ("max_size", "mtime = \"received\"\nmax_size", Other, "folder.mtime", "client -> received"),
            ("max_size", "finalize = \"quiet 5min\"\nmax_size", Other, "folder.finalize", "close -> quiet 5min"),
            ("max_size", "digests = [\"md5\"]\nmax_size", Other, "folder.digests", "none -> md5"),
            ("max_size", "temp_names = []\nmax_size", Other, "folder.temp_names", "-> none"),
            ("max_size", "resume_window = \"1h\"\nmax_size", Other, "folder.resume_window", "24h -> 1h"),
        ] {
            let changes = edited(old, new);
            assert_eq!(changes.len(), 1, "{new}: {changes:?}");
            let (found, at, say) = &changes[0];
            assert_eq!((*found, *at), (effect, key), "{new}: {say}");
            assert!(say.contains(says), "{new}: {say}");
        }
        // Both letters of a name, where names are taken and where they are refused.
        let case = edited("max_size", "ignore_case = true\nmax_size");
        assert_eq!(
            case.iter().map(|(effect, key, _)| (*effect, *key)).collect::<Vec<_>>(),
            [(Wider, "folder.accept"), (Narrower, "folder.refuse")]
        );
    }

    #[test]
    fn what_is_only_written_differently_changes_nothing() {
        for (old, new) in
            [("[login]", "# a comment\n[login]"), ("72h", "3 days"), ("10 GiB", "10240 MiB"), ("one", "ein")]
        {
            assert_eq!(edited(old, new), [], "{new}");
        }
    }

    #[test]
    fn a_recipient_is_told_of_at_both_ends() {
        let changes = compare(&policy(ACME, &others()), &policy(&ACME.replace("[\"lab\"]", "[\"clinic\"]"), &others()));
        let told: Vec<_> = changes.iter().map(|c| (c.user.as_str(), c.effect, c.say.as_str())).collect();
        assert_eq!(
            told,
            [
                ("acme", Effect::Wider, "what is sent goes to clinic too"),
                ("acme", Effect::Narrower, "what is sent no longer goes to lab"),
                ("clinic", Effect::Wider, "receives what acme sends to /a"),
                ("lab", Effect::Narrower, "no longer receives what acme sends to /a"),
            ]
        );
    }

    #[test]
    fn accounts_and_folders_come_and_go() {
        let (all, few) = (policy(ACME, &others()), policy(ACME, &others()[1..]));
        let gone = compare(&all, &few);
        assert_eq!((gone.len(), gone[0].user.as_str(), gone[0].effect), (1, "clinic", Effect::Narrower));
        let new = compare(&few, &all);
        assert!(new.iter().all(|change| change.user.as_str() == "clinic" && change.effect == Effect::Wider));
        assert!(new.iter().any(|change| change.say.starts_with("logs in with key SHA256:")), "{new:?}");
        let moved = edited("\"/a\"", "\"/b\"");
        assert!(
            moved.iter().any(
                |(effect, _, say)| *effect == Effect::Wider && say == "a new drop folder to lab, expires after 72h"
            ),
            "{moved:?}"
        );
        assert!(moved.iter().any(|(effect, _, say)| *effect == Effect::Narrower && say.contains("gone")), "{moved:?}");
        let shared = edited("kind = \"drop\"\nto = [\"lab\"]", "kind = \"shared\"");
        assert!(shared.iter().any(|(effect, key, _)| *effect == Effect::Wider && *key == "folder.kind"), "{shared:?}");
    }

    #[test]
    fn another_way_in_or_another_key_that_opens_is_marked() {
        let sealed =
            |key: &str| recipient("lab").replace("mode = \"managed\"", &format!("mode = \"sealed\"\nkey = \"{key}\""));
        let one = "sealdrop1qqs8m3vdt6v5jtmnmptsszcqapk63r9peq2pmanjys7ak5kz7ewkqcs6qgqhu";
        let managed = policy(ACME, &[("lab", recipient("lab"))]);
        let held = policy(ACME, &[("lab", sealed(one))]);
        for (before, after) in [(&managed, &held), (&held, &managed)] {
            let changes = compare(before, after);
            assert_eq!((changes.len(), changes[0].key, changes[0].effect), (1, "inbox.mode", Effect::Wider));
        }
        let end_to_end = |key: &str| sealed(key).replace("\"sealed\"", "\"e2e\"");
        let required = ACME.replace("to = [\"lab\"]", "to = [\"lab\"]\nrequire = \"e2e\"");
        let closed = policy(&required, &[("lab", end_to_end(one))]);
        for (before, after, effect) in [(&held, &closed, Effect::Narrower), (&closed, &held, Effect::Wider)] {
            let changes = compare(before, after);
            let told: Vec<_> = changes.iter().map(|change| (change.key, change.effect)).collect();
            assert_eq!(told, [("folder.require", effect), ("inbox.mode", effect)]);
        }
    }
}

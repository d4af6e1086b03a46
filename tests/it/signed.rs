//! Signed configuration: what no signer has signed is not put in force, at the start or later, and what was signed stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::run;
use crate::site::Site;

struct Signed {
    site: Site,
    usual: String,
}

impl Signed {
    /// A server that wants signatures and has them.
    fn new() -> Self {
        let mut site = Site::prepared();
        for name in ["signer", "stranger"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(site.work().join(name));
            run(keygen, b"").ok();
        }
        let signer = fs::read_to_string(site.work().join("signer.pub")).unwrap();
        let config = fs::read_to_string(site.place().config()).unwrap();
        let table = format!("[policy_signatures]\nsigners = [\"{}\"]\n", signer.trim());
        fs::write(site.place().config(), format!("{config}\n{table}")).unwrap();
        let told = site.start().unwrap_err().message;
        assert!(told.contains("it is not signed"), "{told}");
        let usual = fs::read_to_string(site.place().policy("partner")).unwrap();
        let mut signed = Self { site, usual };
        let policies: Vec<PathBuf> =
            fs::read_dir(signed.partner().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
        policies.iter().for_each(|path| signed.sign("signer", "policy@sealdrop", path));
        signed.sign("signer", "policy@sealdrop", &signed.site.place().config());
        signed.site.start().unwrap();
        signed
    }

    fn partner(&self) -> PathBuf {
        self.site.place().policy("partner")
    }

    fn sign(&self, key: &str, namespace: &str, path: &Path) {
        let _ = fs::remove_file(sig(path));
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(self.site.work().join(key)).arg(path);
        run(sign, b"").ok();
    }

    /// Not read, and why; what was in force stays.
    fn refused(&self, why: &str) {
        let before = self.site.status()["policy"].clone();
        let told = self.site.sealdrop(&["reload"]).fails_with(1);
        assert!(told.contains(why), "{why}: {told}");
        let check = self.site.sealdrop(&["check"]);
        assert_eq!(check.status.code(), Some(1));
        let said = String::from_utf8_lossy(&check.stdout);
        assert!(said.contains("ssh-keygen -Y sign -n policy@sealdrop -f KEY"), "{why}: {said}");
        assert_eq!(self.site.status()["policy"], before, "{why}");
        let event = self.site.events_of("policy-refused", "").pop().unwrap();
        assert!(event["why"].as_str().unwrap().contains(why), "{event}");
    }
}

fn sig(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sig", path.display()))
}

#[test]
fn a_policy_counts_only_with_the_signature_of_a_signer() {
    let at = Signed::new();
    let path = at.partner();
    fs::write(&path, at.usual.replace("72h", "48h")).unwrap();
    at.refused("it has changed since it was signed");
    at.sign("stranger", "policy@sealdrop", &path);
    at.refused("of nobody that [policy_signatures] names");
    at.sign("signer", "file", &path);
    at.refused("its signature is for \"file\"");
    fs::write(sig(&path), "-----BEGIN SSH SIGNATURE-----\n").unwrap();
    at.refused("no signature of SSH's");
    fs::remove_file(sig(&path)).unwrap();
    at.refused("it is not signed");
    at.sign("signer", "policy@sealdrop", &path);
    at.site.sealdrop(&["reload"]).ok();
    let loaded = at.site.events_of("policy-loaded", "").pop().unwrap();
    assert!(loaded["detail"].as_str().unwrap().ends_with(" signer"), "{loaded}");
    at.site.sealdrop(&["check"]).ok();
}

#[test]
fn who_can_edit_the_settings_does_not_become_a_signer_by_it() {
    let mut at = Signed::new();
    let config = at.site.place().config();
    let text = fs::read_to_string(&config).unwrap();
    let cut = text.split("[policy_signatures]").next().unwrap();
    fs::write(&config, cut).unwrap();
    let told = at.site.sealdrop(&["reload"]).fails_with(1);
    assert!(told.contains("it has changed since it was signed"), "{told}");
    fs::write(&config, &text).unwrap();
    at.site.restart();
}

#[test]
fn a_command_that_edits_a_policy_says_that_it_must_be_signed_anew() {
    let at = Signed::new();
    let refused = at.site.sealdrop(&["user", "disable", "partner", "--reload"]).fails_with(1);
    assert!(refused.contains("must be signed"), "{refused}");
    assert_eq!(fs::read_to_string(at.partner()).unwrap(), at.usual);
    let ran = at.site.sealdrop(&["user", "disable", "partner"]);
    assert!(ran.status.success() && ran.stderr.contains("ssh-keygen -Y sign -n policy@sealdrop"), "{ran:?}");
    at.refused("it has changed since it was signed");
    at.sign("signer", "policy@sealdrop", &at.partner());
    at.site.sealdrop(&["reload"]).ok();
}

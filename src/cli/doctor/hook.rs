//! The program that is told of alarms: whether it can be run as its account would run it, and by nobody else's will.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Finding;
use crate::config::Settings;
use crate::sys::process;

pub fn look(settings: &Settings) -> Finding {
    const CHECK: &str = "hook";
    let Some(hook) = &settings.alarms.hook else { return Finding::ok(CHECK, "none is set: alarms are in the log") };
    let program = hook.argv.first().map(String::as_str).unwrap_or_default();
    let about = match fs::metadata(program) {
        Ok(about) => about,
        Err(e) => {
            return Finding::fail(
                CHECK,
                format!("{program}: {e}"),
                "`hook` in [alarms] names the program by its whole path",
            );
        }
    };
    if !about.is_file() || about.mode() & 0o111 == 0 {
        return Finding::fail(
            CHECK,
            format!("{program} is no program: nobody may execute it"),
            format!("chmod 755 {program}"),
        );
    }
    // Whoever can change it, or the folder it lies in, decides what runs.
    let folder = Path::new(program).parent().and_then(|folder| fs::metadata(folder).ok());
    for (what, about) in [("it", Some(&about)), ("its folder", folder.as_ref())] {
        let sticky = |mode: u32| what != "it" && mode & 0o1000 != 0;
        if about.is_some_and(|about| about.mode() & 0o022 != 0 && !sticky(about.mode())) {
            let say = format!("{program}: others may change {what}");
            return Finding::fail(CHECK, say, "chmod go-w it: who changes it decides what is run");
        }
    }
    let as_whom = match (&hook.user, process::is_root()) {
        (None, true) => {
            return Finding::fail(
                CHECK,
                "there is no `hook_user`, and it does not run as root",
                "name an account that owns nothing",
            );
        }
        (Some(user), _) => match process::user_ids(user) {
            Ok(Some(_)) => format!(", as {user}"),
            Ok(None) => {
                let hint = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {user}");
                return Finding::fail(CHECK, format!("the account `{user}` does not exist"), hint);
            }
            Err(e) => return Finding::skip(CHECK, format!("the account `{user}` cannot be looked up: {e}")),
        },
        (None, false) => String::new(),
    };
    Finding::ok(CHECK, format!("{program}{as_whom}; `sealdrop alarms --test` tries it"))
}

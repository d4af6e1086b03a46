//! What `[certificates]` says, whole: the authorities, and the file of what is revoked. A file that is named and cannot be
//! used is an error: without it, what was revoked would be let in again.

use crate::config::problem::{Problem, Severity};
use crate::config::settings::Settings;
use crate::config::{source, sshkey};
use crate::policy::{Revoked, Trust};

/// `None` if a problem was added.
pub fn read(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Trust> {
    let authorities = settings.authorities.clone();
    let Some(path) = &settings.revoked else { return Some(Trust { authorities, revoked: Revoked::default() }) };
    let key = |line: &str| sshkey::parse(line).ok().map(|parsed| parsed.key.blob);
    let read = source::read(path).and_then(|source| {
        Revoked::parse(&source.bytes, key).map_err(|error| {
            let hint = "make it anew with `ssh-keygen -k -f FILE …`, or write public keys into it, one a line";
            Problem::of_file(Severity::Error, path, error.to_string(), hint)
        })
    });
    match read {
        Ok(revoked) => Some(Trust { authorities, revoked }),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

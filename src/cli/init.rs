//! `sealdrop init`: a configuration from the shipped samples, the state directory and its keys. It asks nothing, changes
//! nothing that is there, and says each thing it made; run again it makes what is missing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{self, Settings};
use crate::keeper::{keys, state};

use super::Ending;
use super::admin::DEFAULT_CONFIG;
use super::failure::Failure;
use super::say::{Say, Tone};

/// Make the configuration, the state directory and the keys of a new server
#[derive(clap::Args)]
pub struct Init {
    /// The configuration to make, or the one to make a state directory for
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The server's name in receipts [default: this machine's host name]
    #[arg(long)]
    name: Option<String>,
    /// Where a new configuration keeps the state [default: /var/lib/sealdrop]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Where a new configuration listens [default: as in the sample]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<std::net::SocketAddr>,
}

/// The samples that are shipped; `config` has a test that loads them.
const SAMPLE: &str = include_str!("../../config/sealdrop.toml");
const SAMPLE_POLICIES: [(&str, &str); 4] = [
    ("acme-imaging", include_str!("../../config/policies/acme-imaging.toml")),
    ("st-mary-radiology", include_str!("../../config/policies/st-mary-radiology.toml")),
    ("city-lab", include_str!("../../config/policies/city-lab.toml")),
    ("ward-seven", include_str!("../../config/policies/ward-seven.toml")),
];

impl Init {
    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let mut made = self.make_config()?;
        let loaded = config::load(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        made.extend(make_state(&loaded.settings)?);
        let (known_hosts, allowed_signers) = for_partners(&loaded.settings)?;
        if say.is_json() {
            say.json(&json!({
                "config": self.config,
                "state": loaded.settings.state,
                "made": made,
                "known_hosts": known_hosts,
                "allowed_signers": allowed_signers,
            }));
            return Ok(());
        }
        for path in &made {
            say.line(format_args!("made {}", path.display()));
        }
        if made.is_empty() {
            say.line("everything is there already; nothing was changed");
        }
        let policies = self.config.with_file_name("policies");
        say.line(format_args!(
            "\n{}\n  1. one file per partner in {} (see the .sample files there)\n  2. sealdrop check --config {}\n  3. sealdrop serve --config {}   (or: systemctl enable --now sealdrop)",
            say.tone(Tone::Strong, "Next:"),
            policies.display(),
            self.config.display(),
            self.config.display()
        ));
        say.line(format_args!(
            "\n{}\n  a line for known_hosts (put the name they connect to in its place):\n    {known_hosts}\n  a line for allowed_signers, to check receipts with `ssh-keygen -Y verify -I {}`:\n    {allowed_signers}",
            say.tone(Tone::Strong, "For partners:"),
            loaded.settings.name,
        ));
        Ok(())
    }

    /// The sample with this call's words in it, and the sample policies beside it under names that are not read.
    fn make_config(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut made = Vec::new();
        let policies = self.config.with_file_name("policies");
        make_dirs(&policies, &mut made)?;
        let mut sample = SAMPLE.to_owned();
        if let Some(name) = self.name.clone().or_else(host_name) {
            sample = with_setting(&sample, "name", &format!("{name:?}"))?;
        }
        if let Some(state) = &self.state {
            sample = with_setting(&sample, "state", &format!("{:?}", state.display().to_string()))?;
        }
        if let Some(listen) = &self.listen {
            sample = with_setting(&sample, "listen", &format!("[\"{listen}\"]"))?;
        }
        write_new(&self.config, &sample, &mut made)?;
        for (name, text) in SAMPLE_POLICIES {
            write_new(&policies.join(format!("{name}.toml.sample")), text, &mut made)?;
        }
        Ok(made)
    }
}

/// What receipts can name the server by: this machine's name, if it is of letters, digits, dots and dashes.
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (plain && !name.is_empty()).then_some(name)
}

/// What partners need to know this server by: the line for `known_hosts` and the line for `allowed_signers`.
fn for_partners(settings: &Settings) -> Result<(String, String), Failure> {
    let read = |file: &str| {
        let path = settings.keys.join(file);
        let text = fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))?;
        // Algorithm and key; the comment is this machine's own affair.
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    };
    let port = settings.listen.first().map_or(22, std::net::SocketAddr::port);
    let host = if port == 22 { settings.name.clone() } else { format!("[{}]:{port}", settings.name) };
    Ok((
        format!("{host} {}", read("host_ed25519.pub")?),
        format!(
            "{} namespaces=\"receipt@sealdrop,content@sealdrop,checkpoint@sealdrop\" {}",
            settings.name,
            read("receipt.pub")?
        ),
    ))
}

/// The state directory and its keys, whatever of them is missing.
pub fn make_state(settings: &Settings) -> Result<Vec<PathBuf>, Failure> {
    let mut made = state::create(&settings.state).map_err(|e| Failure::new(&e).hint(e.hint()))?;
    made.extend(keys::create(&settings.keys).map_err(|e| Failure::new(&e).hint(e.hint()))?.files);
    Ok(made)
}

/// `text` with its line `key = …` (commented out or not) set to `value`.
fn with_setting(text: &str, key: &str, value: &str) -> Result<String, Failure> {
    let mut found = false;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let setting = line.trim_start_matches(['#', ' ']);
            let is_it = !found && setting.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            if is_it {
                found = true;
                return format!("{key} = {value}");
            }
            line.to_owned()
        })
        .collect();
    if found { Ok(lines.join("\n") + "\n") } else { Err(Failure::new(format_args!("the sample has no `{key}`"))) }
}

fn make_dirs(path: &Path, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|e| cannot("make", path, &e))?;
    made.push(path.to_owned());
    Ok(())
}

/// A policy holds password hashes: it is for the daemon and its group alone.
fn write_new(path: &Path, text: &str, made: &mut Vec<PathBuf>) -> Result<(), Failure> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| cannot("write", path, &e))?;
            made.push(path.to_owned());
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(cannot("write", path, &e)),
    }
}

fn cannot(what: &str, path: &Path, e: &io::Error) -> Failure {
    let failure = Failure::new(format_args!("cannot {what} {}: {e}", path.display()));
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.hint("run it with sudo, or say with --config and --state where it may be")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_replaces_its_line_and_no_other() {
        let sample = "# the state\nstate = \"/a\"\n#listen = [\"x\"]\nstate_x = 1\n";
        assert_eq!(
            with_setting(sample, "state", "\"/b\"").unwrap(),
            "# the state\nstate = \"/b\"\n#listen = [\"x\"]\nstate_x = 1\n"
        );
        assert!(with_setting(sample, "listen", "[\"y\"]").unwrap().contains("\nlisten = [\"y\"]\n"));
        assert!(with_setting(sample, "nothing", "1").is_err());
    }
}

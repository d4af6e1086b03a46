//! `sealdrop init`: a configuration from the shipped samples, the state directory and its keys. On a terminal, for a new
//! server of which nothing is said, it asks (`guide`); otherwise it asks nothing. It changes nothing that is there, and says each thing
//! it made; run again it makes what is missing.

mod credential;
mod guide;

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::config::{self, RootKey, Settings, schema};
use crate::keeper::{keys, state};
use crate::names::UserName;
use crate::sys::process;

use super::Ending;
use super::admin::DEFAULT_CONFIG;
use super::failure::Failure;
use super::passphrase::Passphrase;
use super::say::{Say, Tone};

/// Make the configuration, the state directory and the keys of a new server
///
/// On a terminal, without --name and --listen, it asks for them, for the first recipient and for the first partner, and
/// writes their policies too. Otherwise it asks nothing.
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
    /// Where a new configuration has its root key from: file:PATH, credential:NAME, passphrase or pkcs11:… [default: a file
    /// with the other keys]
    #[arg(long, value_name = "SOURCE")]
    root_key: Option<String>,
    /// Where a credential is put for systemd to find
    #[arg(long, value_name = "DIR", default_value = "/etc/credstore.encrypted")]
    credstore: PathBuf,
    /// Ask nothing on a terminal either
    #[arg(long)]
    unattended: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// The samples that are shipped; `config` has a test that loads them.
const SAMPLE: &str = include_str!("../../config/sealdrop.toml");
const SAMPLE_POLICIES: [(&str, &str); 4] = [
    ("acme-imaging", include_str!("../../config/policies/acme-imaging.toml")),
    ("st-mary-radiology", include_str!("../../config/policies/st-mary-radiology.toml")),
    ("city-lab", include_str!("../../config/policies/city-lab.toml")),
    ("ward-seven", include_str!("../../config/policies/ward-seven.toml")),
];

/// What several users' files may have in common, to begin with.
const SAMPLE_TEMPLATES: [(&str, &str); 4] = [
    ("auditor", include_str!("../../config/policies/templates/auditor.toml")),
    ("hospital-batch", include_str!("../../config/policies/templates/hospital-batch.toml")),
    ("partner-push", include_str!("../../config/policies/templates/partner-push.toml")),
    ("recipient-pull", include_str!("../../config/policies/templates/recipient-pull.toml")),
];

impl Init {
    pub fn run(mut self, say: &Say) -> Result<(), Ending> {
        // Before anything is made: whoever stops in the middle of the questions has made nothing.
        let answers = if self.is_guided(say) { Some(self.ask()?) } else { None };
        if let Some(answers) = &answers {
            (self.name, self.listen) = (Some(answers.name.clone()), Some(answers.listen));
        }
        let users = answers.map(|answers| answers.users).unwrap_or_default();
        let mut made = self.make_config()?;
        let loaded = config::load(&self.config).map_err(|e| super::config_failure(&self.config, &e))?;
        process::harden().map_err(|e| Failure::new(format_args!("cannot forbid core dumps: {e}")))?;
        if let RootKey::Credential(name) = &loaded.settings.root_key {
            made.extend(credential::make(&self.credstore, name)?);
        }
        made.extend(make_state(&loaded.settings, &mut || self.passphrase.choose())?);
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
        let partner = users.last().filter(|_| users.len() > 1).map(|partner| partner.name().clone());
        if !users.is_empty() {
            for user in users {
                user.run_beside(say, &self.config)?;
            }
            // Only now is there whoever sends to whom.
            for warning in &super::user::load(&self.config)?.warnings {
                say.warn(&warning.message);
            }
        }
        let policies = self.config.with_file_name("policies");
        match partner {
            Some(partner) => self.tell_next(say, &partner, loaded.settings.listen.first()),
            None => say.line(format_args!(
            "\n{}\n  1. one file per partner in {} (see the .sample files there)\n  2. sealdrop check --config {}\n  3. sealdrop serve --config {}   (or: systemctl enable --now sealdrop)",
            say.tone(Tone::Strong, "Next:"),
            policies.display(),
            self.config.display(),
            self.config.display()
        )),
        }
        say.line(format_args!(
            "\n{}\n  a line for known_hosts (put the name they connect to in its place):\n    {known_hosts}\n  a line for allowed_signers, to check receipts with `ssh-keygen -Y verify -I {}`:\n    {allowed_signers}",
            say.tone(Tone::Strong, "For partners:"),
            loaded.settings.name,
        ));
        Ok(())
    }

    /// Whether somebody sits there who has said nothing yet, of a server that is not there yet.
    fn is_guided(&self, say: &Say) -> bool {
        let said = self.name.is_some() || self.listen.is_some();
        let there = io::stdin().is_terminal() && io::stderr().is_terminal();
        there && !said && !self.unattended && !say.is_json() && !self.config.exists()
    }

    fn ask(&self) -> Result<guide::Answers, Failure> {
        let name = host_name().unwrap_or_else(|| "sealdrop".to_owned());
        guide::Guide::new(io::stdin().lock(), io::stderr().lock()).ask_all(&name, "[::]:2222")
    }

    /// What is left between here and the partner's first drop.
    fn tell_next(&self, say: &Say, partner: &UserName, listen: Option<&std::net::SocketAddr>) {
        let config = match self.config == Path::new(DEFAULT_CONFIG) {
            true => String::new(),
            false => format!(" --config {}", self.config.display()),
        };
        let port = listen.map_or(2222, std::net::SocketAddr::port);
        say.line(format_args!(
            "\n{}\n  1. sealdrop check{config}\n  2. sealdrop serve{config}   (or: systemctl enable --now sealdrop)\n  3. sealdrop \
             onboard {partner} --host THIS-SERVER:{port}{config}: a folder to send to {partner}, with a file to try",
            say.tone(Tone::Strong, "Next:"),
        ));
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
        if let Some(root_key) = &self.root_key {
            sample = with_setting(&sample, "root_key", &format!("{root_key:?}"))?;
        }
        write_new(&self.config, &sample, &mut made)?;
        // What the first line of each sample names, so that an editor completes the keys.
        let schemas = self.config.with_file_name("schema");
        make_dirs(&schemas, &mut made)?;
        for file in schema::File::ALL {
            write_new(&schemas.join(file.name()), &file.text(), &mut made)?;
        }
        for (name, text) in SAMPLE_POLICIES {
            write_new(&policies.join(format!("{name}.toml.sample")), text, &mut made)?;
        }
        let templates = policies.join(config::TEMPLATES);
        make_dirs(&templates, &mut made)?;
        for (name, text) in SAMPLE_TEMPLATES {
            write_new(&templates.join(format!("{name}.toml.sample")), text, &mut made)?;
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
    let of_keys = |e: keys::KeyError| Failure::new(&e).hint(e.hint());
    let hosts = keys::known_hosts(&settings.keys, &known_host(settings), &settings.host_keys).map_err(of_keys)?;
    // One line is enough for a client; the others are for those that know one of them.
    Ok((hosts.lines().next().unwrap_or_default().to_owned(), allowed_signers(settings)?))
}

/// The lines with which `ssh-keygen -Y verify` knows this server, those of former receipt keys first.
pub fn allowed_signers(settings: &Settings) -> Result<String, Failure> {
    let lines = keys::allowed_signers(&settings.keys, &settings.name);
    Ok(lines.map_err(|e| Failure::new(&e).hint(e.hint()))?.trim_end().to_owned())
}

/// How `known_hosts` names this server, if partners connect by its own name.
pub fn known_host(settings: &Settings) -> String {
    let port = settings.listen.first().map_or(22, std::net::SocketAddr::port);
    if port == 22 { settings.name.clone() } else { format!("[{}]:{port}", settings.name) }
}

/// The state directory and its keys, whatever of them is missing.
pub fn make_state(settings: &Settings, ask: keys::Ask<'_>) -> Result<Vec<PathBuf>, Failure> {
    let mut made = state::create(&settings.state).map_err(|e| Failure::new(&e).hint(e.hint()))?;
    let keys = keys::create(&settings.keys, &settings.host_keys, &settings.root_key, ask);
    made.extend(keys.map_err(|e| Failure::new(&e).hint(e.hint()))?.files);
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

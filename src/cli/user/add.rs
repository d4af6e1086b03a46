//! `sealdrop user add`: a policy file for a new user, written as an admin would write it.

use std::fmt::Write as _;
use std::path::Path;

use crate::clock;
use crate::config::edit::quoted;
use crate::names::UserName;

use super::{Way, public_key};
use crate::cli::Ending;
use crate::cli::admin::DEFAULT_CONFIG;
use crate::cli::failure::Failure;
use crate::cli::say::Say;

/// Make a policy file for a new user
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Add {
    /// The name to log in with: 1 to 32 of a-z 0-9 _ . -
    user: UserName,
    /// A public key: a line as in id_ed25519.pub, or the file
    #[arg(long, value_name = "KEY", required = true)]
    key: Vec<String>,
    /// The template in policies/templates/ that says the rest
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Where logins may come from [default: anywhere]
    #[arg(long, value_name = "NETWORK")]
    from: Vec<String>,
    /// A folder that is delivered to these recipients
    #[arg(long, value_name = "PATH=USER[,USER]")]
    drop: Vec<String>,
    /// How long what is sent there exists: "72h", "72h or after 1 pickup", an expiry profile
    #[arg(long, value_name = "EXPIRY", default_value = "72h")]
    expire: String,
    /// A folder that the user reads and writes
    #[arg(long, value_name = "PATH")]
    shared: Vec<String>,
    /// Make the user a recipient whose files the server opens as they are read
    #[arg(long)]
    inbox: bool,
    /// Make the user a recipient who alone can open what arrives: the line that `sealdrop keygen` printed
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "inbox")]
    inbox_key: Option<String>,
    /// The same, and only what its sender sealed to that key comes in
    #[arg(long, value_name = "RECIPIENT", conflicts_with_all = ["inbox", "inbox_key"])]
    inbox_e2e: Option<String>,
    /// Of --drop: take only what its sender sealed to the recipients' keys
    #[arg(long, requires = "drop")]
    e2e: bool,
    #[command(flatten)]
    way: Way,
}

const EXAMPLES: &str = "\
Examples:
  sealdrop user add st-mary --key st-mary.pub --inbox
  sealdrop user add acme --key acme.pub --drop /radiology=st-mary --from 203.0.113.0/24 --reload
  sealdrop user add beta --key beta.pub --template partner --reload";

impl Add {
    /// A user who fetches; with `sealed`, what only it can open.
    pub fn recipient(user: UserName, key: String, sealed: Option<String>) -> Self {
        Self { inbox: sealed.is_none(), inbox_key: sealed, ..Self::plain(user, key) }
    }

    /// A user who sends into one folder, to one recipient.
    pub fn partner(user: UserName, key: String, folder: &str, to: &UserName, expire: String) -> Self {
        Self { drop: vec![format!("{folder}={to}")], expire, ..Self::plain(user, key) }
    }

    fn plain(user: UserName, key: String) -> Self {
        Self {
            user,
            key: vec![key],
            template: None,
            from: Vec::new(),
            drop: Vec::new(),
            expire: String::new(),
            shared: Vec::new(),
            inbox: false,
            inbox_key: None,
            inbox_e2e: None,
            e2e: false,
            way: Way::unborn(Path::new(DEFAULT_CONFIG)),
        }
    }

    pub fn name(&self) -> &UserName {
        &self.user
    }

    /// Makes the file beside the configuration of a server that is being made.
    pub fn run_beside(mut self, say: &Say, config: &Path) -> Result<(), Ending> {
        self.way = Way::unborn(config);
        self.run(say)
    }

    pub fn run(self, say: &Say) -> Result<(), Ending> {
        let path = self.way.path(&self.user)?;
        if path.exists() {
            let hint = format!("`sealdrop user keys {}` changes its keys; anything else, in an editor", self.user);
            return Err(Failure::new(format_args!("{} is there already", path.display())).hint(hint).into());
        }
        let recipient = self.inbox || self.inbox_key.is_some() || self.inbox_e2e.is_some();
        if self.drop.is_empty() && self.shared.is_empty() && !recipient && self.template.is_none() {
            let message = format!("{} could log in and do nothing", self.user);
            return Err(Failure::new(message).hint("give --drop, --shared, --inbox, --inbox-key or --template").into());
        }
        let text = self.text()?;
        self.way.write(say, &self.user, &text, &format!("{} has an account", self.user))
    }

    fn text(&self) -> Result<String, Failure> {
        let user = &self.user;
        let day = clock::now().rfc3339().chars().take(10).collect::<String>();
        let mut text = format!(
            "#:schema ../schema/policy.schema.json\n# Made by `sealdrop user add` on {day}. Every key is explained in docs/policy.md.\n\nuser = \
             {}\n",
            quoted(user.as_str())
        );
        // Writing to a string cannot fail.
        if let Some(template) = &self.template {
            let _ = writeln!(text, "template = {}", quoted(template));
        }
        text.push_str("\n[login]\nkeys = [\n");
        for key in &self.key {
            let _ = writeln!(text, "  {},", quoted(&public_key(key)?));
        }
        text.push_str("]\n");
        if !self.from.is_empty() {
            let _ = writeln!(text, "from = {}", list(self.from.iter().map(String::as_str)));
        }
        for drop in &self.drop {
            let Some((path, to)) = drop.split_once('=') else {
                let hint = "as in --drop /radiology=st-mary";
                return Err(Failure::new(format_args!("`{drop}` does not say to whom")).hint(hint));
            };
            let _ = write!(
                text,
                "\n[[folder]]\npath   = {}\nkind   = \"drop\"\nto     = {}\nexpire = {}\n",
                quoted(path),
                list(to.split(',').map(str::trim)),
                quoted(&self.expire)
            );
            if self.e2e {
                text.push_str("require = \"e2e\"\n");
            }
        }
        for path in &self.shared {
            let _ = write!(text, "\n[[folder]]\npath = {}\nkind = \"shared\"\n", quoted(path));
        }
        match (&self.inbox_key, &self.inbox_e2e) {
            (Some(key), _) => {
                let _ = write!(text, "\n[inbox]\nmode = \"sealed\"\nkey  = {}\n", quoted(key));
            }
            (None, Some(key)) => {
                let _ = write!(text, "\n[inbox]\nmode = \"e2e\"\nkey  = {}\n", quoted(key));
            }
            (None, None) if self.inbox => text.push_str("\n[inbox]\nmode = \"managed\"\n"),
            (None, None) => {}
        }
        Ok(text)
    }
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", texts.map(quoted).collect::<Vec<_>>().join(", "))
}

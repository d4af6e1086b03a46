//! The README.txt of an onboarding folder: for a person who knows their client and has never heard of this server.

use std::fmt::Write as _;

use super::Facts;
use crate::policy::{Finalize, Folder, FolderKind, Inbox, Overwrite};

pub fn letter(facts: &Facts<'_>) -> String {
    let Facts { server, user, host, port, host_keys, .. } = facts;
    let mut text = format!(
        "Your account at {server}\n{}\n\n  server    {host}, port {port}, SFTP\n  user      {}\n  log in    {}\n",
        "=".repeat(16 + server.chars().count()),
        user.name,
        ways(facts),
    );
    let mut line = |words: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{words}");
    };
    if !user.login.from.is_empty() {
        let from: Vec<String> = user.login.from.iter().map(ToString::to_string).collect();
        line(format!("  from      {}", from.join(", ")));
    }
    line("\nThe server's host keys. Compare before you say yes, best by telephone:\n".to_owned());
    for key in host_keys {
        line(format!("  {}  {}", key.line.split(' ').next().unwrap_or_default(), key.fingerprint));
    }
    for folder in facts.drops() {
        line(format!("\nSend to {}", folder.path));
        what_is_taken(folder, &mut line);
        if folder.overwrite == Overwrite::Refuse {
            line("  A second file of the same name is refused.".to_owned());
        }
        line("  What was sent cannot be read back here; the receipt says that it arrived.".to_owned());
    }
    for folder in user.folders.iter().filter(|folder| folder.kind == FolderKind::Shared) {
        line(format!("\nRead and write in {}", folder.path));
        what_is_taken(folder, &mut line);
    }
    match &user.inbox {
        Some(Inbox::Managed { .. }) => {
            line("\nFetch from /inbox. Each sender has a folder there. Files expire: fetch them in time.".to_owned());
        }
        Some(_) => {
            line(
                "\nFetch from /inbox, NAME.sealed. Only you can open them, with your identity file:\n\n  sealdrop open -i IDENTITY -o NAME \
                 NAME.sealed\n\nor in a browser, without a network: open.html in this folder. Files expire: fetch them in time."
                    .to_owned(),
            );
        }
        None => {}
    }
    if !user.folders.is_empty() {
        line(format!(
            "\nReceipts. When your client reports success, the file is on the server's disk, sealed to its recipients. For each there is a\nsigned \
             receipt in /receipts, under the same path. Anybody can check it with OpenSSH:\n\n  ssh-keygen -Y verify -f allowed_signers -I \
             {server} -n receipt@sealdrop -s NAME.receipt.sig < NAME.receipt\n  ssh-keygen -Y verify -f allowed_signers -I {server} -n \
             content@sealdrop -s NAME.content.sig < NAME\n\nThe second line checks your own file against the server's signature."
        ));
    }
    line("\nIn this folder, ready to be used:\n".to_owned());
    for (name, what) in super::snippets::NAMES {
        line(format!("  {name:<16} {what}"));
    }
    if let Some((folder, name)) = facts.try_with() {
        line(format!("\nTry it: send {name} to {}, as `sftp -F ssh_config -b try.sftp sealdrop` does.", folder.path));
    }
    text
}

fn ways(facts: &Facts<'_>) -> String {
    let login = &facts.user.login;
    let keys = match login.keys.len() {
        0 => None,
        _ => {
            let known: Vec<&str> = login.keys.iter().map(|key| key.fingerprint.as_str()).collect();
            Some(format!("with your SSH key ({})", known.join(", ")))
        }
    };
    let certificate =
        (!login.principals.is_empty()).then(|| format!("with a certificate for {}", login.principals.join(" or ")));
    let password = login.password.as_ref().map(|_| "a password".to_owned());
    let code = login.totp.as_ref().map(|_| "a one-time code".to_owned());
    [keys, certificate, password, code].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn what_is_taken(folder: &Folder, line: &mut impl FnMut(String)) {
    if !folder.accept.is_empty() {
        line(format!("  Names taken: {}.", folder.accept.texts().join(", ")));
    }
    if let Some(max) = folder.max_size {
        line(format!("  Up to {} each.", crate::cli::say::size(max.0)));
    }
    if folder.end_to_end {
        line(
            "  Only files that you sealed to their recipients, with `sealdrop seal`; ask them for their keys."
                .to_owned(),
        );
    }
    match folder.finalize {
        Finalize::Close => {}
        Finalize::Rename => {
            line("  Send under a temp name (NAME.filepart, NAME.part) and rename when it is complete.".to_owned());
        }
        Finalize::Quiet(_) => {
            line("  It is delivered a while after your client has closed it and left it alone.".to_owned());
        }
    }
    let hours = folder.resume_window.as_secs() / 3600;
    if hours > 0 {
        line(format!("  An upload that was cut off can be continued for {hours} hours (reput, put -c)."));
    }
}

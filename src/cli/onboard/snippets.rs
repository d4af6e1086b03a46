//! Settings for the clients that partners have, each usable as it stands in the folder it is sent in. Private keys are the
//! partner's own and named as OpenSSH names them by default.

use super::Facts;

/// What is made, for the letter.
pub const NAMES: [(&str, &str); 7] = [
    ("known_hosts", "the server's host keys, for OpenSSH and all that read its file"),
    ("allowed_signers", "whose signature a receipt must bear"),
    ("ssh_config", "OpenSSH: sftp -F ssh_config sealdrop"),
    ("winscp.txt", "WinSCP: winscp.com /script=winscp.txt"),
    ("filezilla.xml", "FileZilla: File, Import"),
    ("try.lftp", "lftp: lftp -f try.lftp"),
    ("rclone.conf", "rclone: rclone --config rclone.conf lsd sealdrop:"),
];

/// Names and contents.
pub fn all(facts: &Facts<'_>) -> Vec<(String, String)> {
    let mut files = vec![
        ("ssh_config", ssh_config(facts)),
        ("winscp.txt", winscp(facts)),
        ("filezilla.xml", filezilla(facts)),
        ("try.lftp", lftp(facts)),
        ("rclone.conf", rclone(facts)),
    ];
    files.push(("try.sftp", tries(facts, "put", "ls")));
    files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

/// What is tried: the test file is sent, or the inbox listed.
fn tries(facts: &Facts<'_>, put: &str, list: &str) -> String {
    match facts.try_with() {
        Some((folder, name)) => format!("cd \"{}\"\n{put} \"{name}\"\n{list}\n", folder.path),
        None => format!("{list} /\n"),
    }
}

fn ssh_config(facts: &Facts<'_>) -> String {
    let Facts { user, host, port, .. } = facts;
    format!(
        "Host sealdrop\n  HostName {host}\n  Port {port}\n  User {}\n  UserKnownHostsFile known_hosts\n  StrictHostKeyChecking yes\n  # Your key, \
         if it is not one of OpenSSH's usual names:\n  # IdentityFile ~/.ssh/id_ed25519\n",
        user.name
    )
}

fn winscp(facts: &Facts<'_>) -> String {
    let Facts { user, host, port, .. } = facts;
    let key = facts.host_keys.iter().find_map(super::HostKey::winscp).unwrap_or_default();
    format!(
        "# winscp.com /script=winscp.txt\n# Any error ends the script, and its exit code says so.\noption batch abort\noption confirm off\nopen \
         sftp://{}@{host}:{port}/ -hostkey=\"{key}\" -privatekey=key.ppk\n{}exit\n",
        user.name,
        tries(facts, "put", "ls")
    )
}

/// FileZilla's export of its site manager. Logon type 5 is a key file.
fn filezilla(facts: &Facts<'_>) -> String {
    let Facts { server, user, host, port, .. } = facts;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FileZilla3>\n  <Servers>\n    <Server>\n      <Host>{host}</Host>\n      <Port>{port}</Port>\n      \
         <Protocol>1</Protocol>\n      <Type>0</Type>\n      <User>{}</User>\n      <Logontype>5</Logontype>\n      <Keyfile></Keyfile>\n      \
         <Name>{server}</Name>\n    </Server>\n  </Servers>\n</FileZilla3>\n",
        user.name
    )
}

fn lftp(facts: &Facts<'_>) -> String {
    let Facts { user, host, port, .. } = facts;
    format!(
        "# lftp -f try.lftp\nset sftp:connect-program \"ssh -a -x -o UserKnownHostsFile=known_hosts -o StrictHostKeyChecking=yes\"\nset cmd:fail-exit \
         yes\nset net:max-retries 2\nopen -u {}, sftp://{host}:{port}\n{}",
        user.name,
        tries(facts, "put", "cls")
    )
}

fn rclone(facts: &Facts<'_>) -> String {
    let Facts { user, host, port, .. } = facts;
    format!(
        "[sealdrop]\ntype = sftp\nhost = {host}\nport = {port}\nuser = {}\nknown_hosts_file = known_hosts\n# Your key: without it rclone asks \
         ssh-agent.\n# key_file = ~/.ssh/id_ed25519\nshell_type = unix\nset_modtime = false\n",
        user.name
    )
}

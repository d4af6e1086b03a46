//! The rows: what each client is told to do for each column, in its own words.

use std::path::Path;
use std::process::Command;

use crate::run::{Ran, run};
use crate::site::{have, have_node, have_python};
use crate::user::User;

/// From the first word to the second: local and remote, or the other way round.
type Move = fn(&User<'_>, &str, &str) -> Ran;

#[derive(Clone, Copy)]
pub struct Client {
    pub name: &'static str,
    pub here: fn() -> bool,
    pub version: fn() -> String,
    /// To compare with OpenSSH's server, which as set up here speaks SFTP alone.
    pub sftp: bool,
    pub put: Move,
    pub get: Move,
    pub resume: Option<Move>,
    pub rename: Option<Move>,
    /// A local folder into a remote one, where it keeps its name.
    pub put_tree: Option<Move>,
    pub get_tree: Option<Move>,
    pub put_with_times: Option<Move>,
    pub get_with_times: Option<Move>,
    /// The SHA-256 of a remote file, somewhere in what is printed.
    pub hash: Option<fn(&User<'_>, &str) -> Ran>,
    /// How `hash` asks.
    pub asks: &'static str,
    /// What does not work, and why: a cell of the table.
    pub fails: &'static [(&'static str, &'static str)],
}

const NOTHING: Client = Client {
    name: "",
    here: || true,
    version: String::new,
    sftp: true,
    put: |_, _, _| unreachable!("every client puts"),
    get: |_, _, _| unreachable!("every client gets"),
    resume: None,
    rename: None,
    put_tree: None,
    get_tree: None,
    put_with_times: None,
    get_with_times: None,
    hash: None,
    asks: "",
    fails: &[],
};

pub const OPENSSH_SFTP: Client = Client {
    name: "OpenSSH `sftp`",
    version: openssh_version,
    put: |user, local, remote| user.sftp(format!("put \"{local}\" \"{remote}\"")),
    get: |user, remote, local| user.sftp(format!("get \"{remote}\" \"{local}\"")),
    resume: Some(|user, local, remote| user.sftp(format!("reput \"{local}\" \"{remote}\""))),
    rename: Some(|user, from, to| user.sftp(format!("rename \"{from}\" \"{to}\""))),
    put_tree: Some(|user, local, remote| user.sftp(format!("put -r \"{local}\" \"{remote}\""))),
    get_tree: Some(|user, remote, local| user.sftp(format!("get -r \"{remote}\" \"{local}\""))),
    put_with_times: Some(|user, local, remote| user.sftp(format!("put -p \"{local}\" \"{remote}\""))),
    get_with_times: Some(|user, remote, local| user.sftp(format!("get -p \"{remote}\" \"{local}\""))),
    hash: Some(|user, remote| user.ssh(&[], &["sha256sum", remote])),
    asks: "`ssh HOST sha256sum`",
    ..NOTHING
};

pub const OPENSSH_SCP: Client = Client {
    name: "OpenSSH `scp`",
    version: openssh_version,
    put: |user, local, remote| user.scp(&["-q", local, &user.remote(remote)]),
    get: |user, remote, local| user.scp(&["-q", &user.remote(remote), local]),
    put_tree: Some(|user, local, remote| user.scp(&["-q", "-r", local, &user.remote(remote)])),
    get_tree: Some(|user, remote, local| user.scp(&["-q", "-r", &user.remote(remote), local])),
    put_with_times: Some(|user, local, remote| user.scp(&["-q", "-p", local, &user.remote(remote)])),
    get_with_times: Some(|user, remote, local| user.scp(&["-q", "-p", &user.remote(remote), local])),
    ..NOTHING
};

pub const OPENSSH_SCP_O: Client = Client {
    name: "OpenSSH `scp -O`",
    version: openssh_version,
    sftp: false,
    put: |user, local, remote| user.scp(&["-O", "-q", local, &user.remote(remote)]),
    get: |user, remote, local| user.scp(&["-O", "-q", &user.remote(remote), local]),
    put_tree: Some(|user, local, remote| user.scp(&["-O", "-q", "-r", local, &user.remote(remote)])),
    get_tree: Some(|user, remote, local| user.scp(&["-O", "-q", "-r", &user.remote(remote), local])),
    put_with_times: Some(|user, local, remote| user.scp(&["-O", "-q", "-p", local, &user.remote(remote)])),
    get_with_times: Some(|user, remote, local| user.scp(&["-O", "-q", "-p", &user.remote(remote), local])),
    ..NOTHING
};

pub const LFTP: Client = Client {
    name: "lftp",
    here: || have("lftp"),
    version: || word("lftp", &["--version"], "LFTP | Version "),
    put: |user, local, remote| user.lftp(&format!("put \"{local}\" -o \"{remote}\"")),
    get: |user, remote, local| user.lftp(&format!("set xfer:clobber on; get \"{remote}\" -o \"{local}\"")),
    resume: Some(|user, local, remote| user.lftp(&format!("put -c \"{local}\" -o \"{remote}\""))),
    rename: Some(|user, from, to| user.lftp(&format!("mv \"{from}\" \"{to}\""))),
    put_tree: Some(|user, local, remote| user.lftp(&format!("mirror -R \"{local}\" \"{remote}/\""))),
    get_tree: Some(|user, remote, local| user.lftp(&format!("mirror \"{remote}\" \"{local}/\""))),
    put_with_times: Some(|user, local, remote| user.lftp(&format!("put \"{local}\" -o \"{remote}\""))),
    get_with_times: Some(|user, remote, local| user.lftp(&format!("get \"{remote}\" -o \"{local}\""))),
    ..NOTHING
};

pub const RCLONE: Client = Client {
    name: "rclone",
    here: || have("rclone"),
    version: || word("rclone", &["version"], "rclone v"),
    put: |user, local, remote| user.rclone(&["copyto", "--ignore-times", local, &format!(":sftp:{remote}")]),
    get: |user, remote, local| user.rclone(&["copyto", "--ignore-times", &format!(":sftp:{remote}"), local]),
    rename: Some(|user, from, to| user.rclone(&["moveto", &format!(":sftp:{from}"), &format!(":sftp:{to}")])),
    put_tree: Some(|user, local, remote| {
        let remote = format!(":sftp:{remote}/{}", last(local));
        user.rclone(&["copy", "--create-empty-src-dirs", local, &remote])
    }),
    get_tree: Some(|user, remote, local| {
        let local = format!("{local}/{}", last(remote));
        user.rclone(&["copy", "--create-empty-src-dirs", &format!(":sftp:{remote}"), &local])
    }),
    put_with_times: Some(|user, local, remote| user.rclone(&["copyto", local, &format!(":sftp:{remote}")])),
    get_with_times: Some(|user, remote, local| user.rclone(&["copyto", &format!(":sftp:{remote}"), local])),
    ..NOTHING
};

pub const PSFTP: Client = Client {
    name: "`psftp`",
    here: || have("psftp") && have("puttygen"),
    version: putty_version,
    put: |user, local, remote| user.psftp(&format!("put \"{local}\" \"{remote}\"")),
    get: |user, remote, local| user.psftp(&format!("get \"{remote}\" \"{local}\"")),
    resume: Some(|user, local, remote| user.psftp(&format!("reput \"{local}\" \"{remote}\""))),
    rename: Some(|user, from, to| user.psftp(&format!("mv \"{from}\" \"{to}\""))),
    put_tree: Some(|user, local, remote| user.psftp(&format!("put -r \"{local}\" \"{remote}/{}\"", last(local)))),
    get_tree: Some(|user, remote, local| user.psftp(&format!("get -r \"{remote}\" \"{local}/{}\"", last(remote)))),
    ..NOTHING
};

pub const PSCP: Client = Client {
    name: "`pscp`",
    here: || have("pscp") && have("puttygen"),
    version: putty_version,
    put: |user, local, remote| user.pscp(&["-q", local, &user.remote(remote)]),
    get: |user, remote, local| user.pscp(&["-q", &user.remote(remote), local]),
    put_tree: Some(|user, local, remote| user.pscp(&["-q", "-r", local, &user.remote(remote)])),
    get_tree: Some(|user, remote, local| user.pscp(&["-q", "-r", &user.remote(remote), local])),
    put_with_times: Some(|user, local, remote| user.pscp(&["-q", "-p", local, &user.remote(remote)])),
    get_with_times: Some(|user, remote, local| user.pscp(&["-q", "-p", &user.remote(remote), local])),
    ..NOTHING
};

pub const CURL: Client = Client {
    name: "curl",
    here: || have("curl"),
    version: || word("curl", &["--version"], "curl "),
    put: |user, local, remote| user.curl(&["--upload-file", local], remote),
    get: |user, remote, local| user.curl(&["--output", local], remote),
    resume: Some(|user, local, remote| user.curl(&["--continue-at", "-", "--upload-file", local], remote)),
    rename: Some(|user, from, to| {
        user.curl(&["--output", "/dev/null", "--quote", &format!("rename {from} {to}")], "/shared/")
    }),
    get_with_times: Some(|user, remote, local| user.curl(&["--remote-time", "--output", local], remote)),
    ..NOTHING
};

pub const PARAMIKO: Client = Client {
    name: "paramiko",
    here: || have_python("paramiko"),
    version: || python_version("paramiko"),
    put: |user, local, remote| user.paramiko(&format!("sftp.put({local:?}, {remote:?})")),
    get: |user, remote, local| user.paramiko(&format!("sftp.get({remote:?}, {local:?})")),
    resume: Some(|user, local, remote| {
        user.paramiko(&format!(
            "file = sftp.open({remote:?}, 'ab'); file.set_pipelined(True)\n\
             whole = open({local:?}, 'rb'); whole.seek(sftp.stat({remote:?}).st_size)\n\
             file.write(whole.read()); file.close()"
        ))
    }),
    rename: Some(|user, from, to| user.paramiko(&format!("sftp.rename({from:?}, {to:?})"))),
    put_with_times: Some(|user, local, remote| {
        user.paramiko(&format!(
            "sftp.put({local:?}, {remote:?}); of = os.stat({local:?}); sftp.utime({remote:?}, (of.st_atime, of.st_mtime))"
        ))
    }),
    get_with_times: Some(|user, remote, local| {
        user.paramiko(&format!(
            "sftp.get({remote:?}, {local:?}); of = sftp.stat({remote:?}); os.utime({local:?}, (of.st_atime, of.st_mtime))"
        ))
    }),
    hash: Some(|user, remote| user.paramiko(&format!("print(sftp.open({remote:?}).check('sha256').hex())"))),
    asks: "`check-file`",
    ..NOTHING
};

pub const ASYNCSSH: Client = Client {
    name: "asyncssh",
    here: || have_python("asyncssh"),
    version: || python_version("asyncssh"),
    put: |user, local, remote| user.asyncssh(&format!("await sftp.put({local:?}, {remote:?})")),
    get: |user, remote, local| user.asyncssh(&format!("await sftp.get({remote:?}, {local:?})")),
    resume: Some(|user, local, remote| {
        user.asyncssh(&format!(
            "there = await sftp.getsize({remote:?}); file = await sftp.open({remote:?}, 'ab'); \
             await file.write(open({local:?}, 'rb').read()[there:]); await file.close()"
        ))
    }),
    rename: Some(|user, from, to| user.asyncssh(&format!("await sftp.rename({from:?}, {to:?})"))),
    put_tree: Some(|user, local, remote| {
        user.asyncssh(&format!("await sftp.put({local:?}, {remote:?}, recurse=True)"))
    }),
    get_tree: Some(|user, remote, local| {
        user.asyncssh(&format!("await sftp.get({remote:?}, {local:?}, recurse=True)"))
    }),
    put_with_times: Some(|user, local, remote| {
        user.asyncssh(&format!("await sftp.put({local:?}, {remote:?}, preserve=True)"))
    }),
    get_with_times: Some(|user, remote, local| {
        user.asyncssh(&format!("await sftp.get({remote:?}, {local:?}, preserve=True)"))
    }),
    hash: Some(|user, remote| {
        user.asyncssh(&format!("print((await ssh.run('sha256sum ' + {remote:?}, check=True)).stdout)"))
    }),
    asks: "`sha256sum` by exec",
    ..NOTHING
};

pub const NODE: Client = Client {
    name: "node ssh2",
    here: || have_node("ssh2"),
    version: || {
        let mut command = Command::new("node");
        command.args(["-p", "require('ssh2/package.json').version"]);
        run_in_node(command).trim().to_owned()
    },
    put: |user, local, remote| user.node(&format!("await sftp.fastPut({local:?}, {remote:?})")),
    get: |user, remote, local| user.node(&format!("await sftp.fastGet({remote:?}, {local:?})")),
    resume: Some(|user, local, remote| {
        user.node(&format!(
            "const start = (await sftp.stat({remote:?})).size; \
             await require('stream/promises').pipeline(fs.createReadStream({local:?}, {{ start }}), \
             raw.createWriteStream({remote:?}, {{ flags: 'r+', start }}))"
        ))
    }),
    rename: Some(|user, from, to| user.node(&format!("await sftp.rename({from:?}, {to:?})"))),
    put_with_times: Some(|user, local, remote| {
        user.node(&format!(
            "await sftp.fastPut({local:?}, {remote:?}); const of = fs.statSync({local:?}); \
             await sftp.utimes({remote:?}, of.atimeMs / 1000, of.mtimeMs / 1000)"
        ))
    }),
    get_with_times: Some(|user, remote, local| {
        user.node(&format!(
            "await sftp.fastGet({remote:?}, {local:?}); const of = await sftp.stat({remote:?}); \
             fs.utimesSync({local:?}, of.atime, of.mtime)"
        ))
    }),
    hash: Some(|user, remote| {
        user.node(&format!(
            "await new Promise((done, failed) => ssh.exec('sha256sum ' + {remote:?}, (error, channel) => \
             error ? failed(error) : channel.on('data', data => console.log(String(data))).on('close', done)))"
        ))
    }),
    asks: "`sha256sum` by exec",
    ..NOTHING
};

pub const SSHFS: Client = Client {
    name: "sshfs",
    here: || have("sshfs") && have("fusermount3"),
    version: || word("sshfs", &["--version"], "SSHFS version "),
    put: |user, local, remote| on_mount(user, "cp \"$1\" \".$2\"", local, remote),
    get: |user, remote, local| on_mount(user, "cp \".$1\" \"$2\"", remote, local),
    resume: Some(|user, local, remote| {
        let append = "tail -c +$(($(stat -c %s \".$2\") + 1)) \"$1\" >> \".$2\"";
        on_mount(user, append, local, remote)
    }),
    rename: Some(|user, from, to| on_mount(user, "mv \".$1\" \".$2\"", from, to)),
    put_tree: Some(|user, local, remote| on_mount(user, "cp -r \"$1\" \".$2/\"", local, remote)),
    get_tree: Some(|user, remote, local| on_mount(user, "cp -r \".$1\" \"$2/\"", remote, local)),
    put_with_times: Some(|user, local, remote| {
        on_mount(user, "cp --preserve=timestamps \"$1\" \".$2\"", local, remote)
    }),
    get_with_times: Some(|user, remote, local| {
        on_mount(user, "cp --preserve=timestamps \".$1\" \"$2\"", remote, local)
    }),
    ..NOTHING
};

pub const FILEZILLA: Client = Client {
    name: "FileZilla (`fzsftp`)",
    here: || have("fzsftp"),
    version: || word("fzsftp", &["-V"], "psftp: "),
    put: |user, local, remote| user.fzsftp(&format!("put \"{local}\" \"{remote}\"")),
    get: |user, remote, local| user.fzsftp(&format!("get \"{remote}\" \"{local}\"")),
    resume: Some(|user, local, remote| user.fzsftp(&format!("reput \"{local}\" \"{remote}\""))),
    rename: Some(|user, from, to| user.fzsftp(&format!("mv \"{from}\" \"{to}\""))),
    put_with_times: Some(|user, local, remote| {
        let modified = std::fs::metadata(user.site.work().join(local)).and_then(|meta| meta.modified());
        let since = modified.expect("a local file").duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        user.fzsftp(&format!("put \"{local}\" \"{remote}\"\nchmtime {} \"{remote}\"", since.as_secs()))
    }),
    ..NOTHING
};

/// Lines for a shell that stands on a mount of everything; `$1` and `$2` are the two names. A local one is absolute there.
fn on_mount(user: &User<'_>, line: &str, from: &str, to: &str) -> Ran {
    let local = |name: &str| {
        let path = user.site.work().join(name);
        // Joined to a folder, an absolute name is itself.
        path.to_str().expect("a name in UTF-8").to_owned()
    };
    let mut ran = None;
    user.mounted("/", |at| {
        let mut command = Command::new("sh");
        command.args(["-ec", line, "sh"]).arg(local(from)).arg(local(to)).current_dir(at);
        ran = Some(run(command, b""));
    });
    ran.expect("it ran")
}

fn last(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).expect("a name")
}

fn openssh_version() -> String {
    let mut command = Command::new("ssh");
    command.arg("-V");
    let said = run(command, b"").stderr;
    said.trim_start_matches("OpenSSH_").split([',', ' ']).next().unwrap_or_default().to_owned()
}

fn putty_version() -> String {
    word("psftp", &["--version"], "Release ")
}

/// The word after `before` in what a program prints.
fn word(program: &str, words: &[&str], before: &str) -> String {
    let mut command = Command::new(program);
    command.args(words);
    let said = run(command, b"");
    let said = String::from_utf8_lossy(&said.stdout).into_owned() + &said.stderr;
    let rest = said.split_once(before).map_or("", |(_, rest)| rest);
    rest.split(|c: char| c.is_whitespace() || c == ',').next().unwrap_or_default().to_owned()
}

fn python_version(module: &str) -> String {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-W", "ignore", "-c", &format!("import {module}; print({module}.__version__)")]);
    run(command, b"").ok().trim().to_owned()
}

fn run_in_node(mut command: Command) -> String {
    command.env("NODE_PATH", crate::site::node_modules());
    run(command, b"").ok()
}

//! What the demo tells: seven steps, each done with stock clients against the running server and checked, so that a
//! demo that ends well is a test that passed. A step that fails ends the demo with an error.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::cli::say::{Say, Tone, size};
use crate::ipc::admin::Status;

use super::client::{self, last_words, sftp, try_sftp, verify};
use super::place::{LAB, PARTNER, Place, RADIOLOGY, SERVER};
use super::this_program;

/// Tells and does everything, from the push to the expiry.
pub fn tell(say: &Say, place: &Place, status: &Status) -> Result<(), Ending> {
    let work = place.dir().join("work");
    fs::create_dir_all(&work).map_err(|e| Failure::new(format_args!("cannot make {}: {e}", work.display())))?;
    let story = Story { say, place, work };
    story.introduce(status);
    story.push()?;
    story.look_at_the_disk()?;
    story.check_the_receipt()?;
    story.pull()?;
    story.open_offline()?;
    story.expire()?;
    story.read_the_log()?;
    Ok(())
}

/// What `--keep` prints: commands that work as they stand, from any directory.
pub fn things_to_try(say: &Say, place: &Place) {
    let dir = place.dir().display();
    let sftp = |user: &str| {
        format!(
            "sftp -P {} -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} {}",
            place.listen().port(),
            place.key(user).display(),
            place.known_hosts().display(),
            place.target(user)
        )
    };
    say.line(format_args!("A server is up on {}; everything is in {dir}. Ctrl-C ends it.\n", place.listen()));
    say.line("Push as the partner (put FILE /radiology/, ls -l /radiology, get /receipts/radiology/FILE.receipt):");
    say.line(format_args!("  {}", sftp(PARTNER)));
    say.line("Pull as radiology (ls /inbox/partner, get /inbox/partner/FILE):");
    say.line(format_args!("  {}", sftp(RADIOLOGY)));
    say.line("Pull as the lab, whose files only its own identity opens (get /inbox/partner/FILE.sealed):");
    say.line(format_args!("  {}", sftp(LAB)));
    say.line(format_args!("  sealdrop open --identity {} FILE.sealed", place.lab_identity().display()));
    say.line("Check a receipt:");
    say.line(format_args!(
        "  ssh-keygen -Y verify -f {} -I {SERVER} -n receipt@sealdrop -s FILE.receipt.sig < FILE.receipt",
        place.allowed_signers().display()
    ));
    say.line("Look after the server:");
    for command in ["status", "drops", "receipts", "audit", "sweep --plan", "sweep --now +400d"] {
        say.line(format_args!("  sealdrop {command} --config {}", place.config().display()));
    }
}

struct Story<'a> {
    say: &'a Say,
    place: &'a Place,
    /// What the people of the story have on their own disks.
    work: PathBuf,
}

/// The file that travels. The name in it is what must never be found on the server's disk.
const NAME: &str = "study-4711.dcm";
const PATIENT: &str = "PATIENT^JANE^1984-02-29";

impl Story<'_> {
    fn introduce(&self, status: &Status) {
        self.heading("A server, a partner and two recipients");
        self.tell(format_args!(
            "{SERVER} listens on {}: keeper {}, gate {}, and one jailed process per connection.",
            self.place.listen(),
            status.pid,
            status.gate_pid
        ));
        self.tell(format_args!("Confinement here: {}.", status.confinement));
        self.tell("The server opens files for radiology; the lab keeps its own key, and the server never sees it.");
    }

    fn push(&self) -> Result<(), Failure> {
        self.heading("The partner pushes a file, with the client it already has");
        let original = self.work.join(NAME);
        let content = study();
        fs::write(&original, &content)
            .map_err(|e| Failure::new(format_args!("cannot write {}: {e}", original.display())))?;
        self.shell(format_args!("sftp partner@… <<< 'put {NAME} /radiology/'  # and to /lab/"));
        sftp(self.place, PARTNER, &format!("put {0} /radiology/{NAME}\nput {0} /lab/{NAME}\n", original.display()))?;
        let listing = sftp(self.place, PARTNER, "ls -l /radiology\n")?;
        for line in listing.lines().filter(|line| !line.starts_with("sftp>")) {
            self.output(line);
        }
        self.tell(format_args!(
            "{} went out; success came back when bytes, receipt and audit entry were durable.",
            size(content.len() as u64)
        ));
        Ok(())
    }

    fn look_at_the_disk(&self) -> Result<(), Failure> {
        self.heading("What the server's disk holds");
        let sealed_at = self.place.state().join("jails").join(PARTNER).join("radiology").join(NAME);
        let sealed = read(&sealed_at)?;
        self.tell("The partner's file begins:");
        hexdump(&study()[128..176]).iter().for_each(|line| self.output(line));
        self.tell("The sealed file begins, and its first record:");
        let record =
            sealed.get(8192..8240).ok_or_else(|| Failure::new("the sealed file is shorter than its header"))?;
        hexdump(&sealed[..16]).iter().chain(&hexdump(record)).for_each(|line| self.output(line));
        let searched = search(&self.place.state(), PATIENT.as_bytes())?;
        self.tell(format_args!(
            "Searched all {} files of the state directory ({}) for \"{PATIENT}\": not there.",
            searched.files,
            size(searched.bytes)
        ));
        Ok(())
    }

    fn check_the_receipt(&self) -> Result<(), Failure> {
        self.heading("The partner's receipt, checked with stock ssh-keygen");
        let receipt = self.work.join(format!("{NAME}.receipt"));
        let signature = self.work.join(format!("{NAME}.receipt.sig"));
        sftp(
            self.place,
            PARTNER,
            &format!(
                "get /receipts/radiology/{NAME}.receipt {}\nget /receipts/radiology/{NAME}.receipt.sig {}\n",
                receipt.display(),
                signature.display()
            ),
        )?;
        let text = read(&receipt)?;
        String::from_utf8_lossy(&text).lines().for_each(|line| self.output(line));
        self.shell(format_args!(
            "ssh-keygen -Y verify -f allowed_signers -I {SERVER} -n receipt@sealdrop -s {NAME}.receipt.sig < {NAME}.receipt"
        ));
        let verdict = verify(self.place, SERVER, "receipt@sealdrop", &text, &signature)?;
        self.output(&verdict);
        Ok(())
    }

    fn pull(&self) -> Result<(), Failure> {
        self.heading("Radiology pulls it");
        let pulled = self.work.join("pulled.dcm");
        self.shell(format_args!("sftp radiology@… <<< 'get /inbox/partner/{NAME}'"));
        sftp(self.place, RADIOLOGY, &format!("get /inbox/partner/{NAME} {}\n", pulled.display()))?;
        self.same(&pulled)?;
        self.tell("Opened on the way out, record by record: the same bytes that the partner pushed.");
        Ok(())
    }

    fn open_offline(&self) -> Result<(), Failure> {
        self.heading("The lab pulls its copy, and opens it without the server");
        let sealed = self.work.join(format!("{NAME}.sealed"));
        let opened = self.work.join("opened.dcm");
        sftp(self.place, LAB, &format!("get /inbox/partner/{NAME}.sealed {}\n", sealed.display()))?;
        self.shell(format_args!("sealdrop open --identity lab.identity --output opened.dcm {NAME}.sealed"));
        let output = self.open(&sealed, &opened)?;
        if !output.status.success() {
            return Err(Failure::new(format_args!("`sealdrop open` failed: {}", last_words(&output))));
        }
        self.same(&opened)?;
        self.tell("The same bytes again; the server could not have opened this one.");
        Ok(())
    }

    fn expire(&self) -> Result<(), Failure> {
        self.heading("Four hundred days later");
        // What a thief, or last week's backup, would have: the server's own copies of both drops.
        let backup = self.work.join("backup-of-lab.dcm");
        let kept = self.place.state().join("jails").join(LAB).join("inbox").join(PARTNER).join(NAME);
        fs::copy(&kept, &backup).map_err(|e| Failure::new(format_args!("cannot copy {}: {e}", kept.display())))?;
        self.shell(format_args!("sealdrop sweep --now +400d"));
        let mut sweep = this_program()?;
        sweep.args(["sweep", "--now", "+400d", "--config"]).arg(self.place.config());
        let output = client::with_input(sweep, b"")?;
        if !output.status.success() {
            return Err(Failure::new(format_args!("`sealdrop sweep` failed: {}", last_words(&output))));
        }
        String::from_utf8_lossy(&output.stdout).lines().for_each(|line| self.output(line));
        let late = self.work.join("too-late.dcm");
        let get = try_sftp(self.place, RADIOLOGY, &format!("get /inbox/partner/{NAME} {}\n", late.display()))?;
        if get.status.success() || late.exists() {
            return Err(Failure::new("an expired drop could still be pulled"));
        }
        self.shell(format_args!("sftp radiology@… <<< 'get /inbox/partner/{NAME}'"));
        self.output(&last_words(&get));
        let opened = self.work.join("from-backup.dcm");
        let output = self.open(&backup, &opened)?;
        if output.status.success() || opened.exists() {
            return Err(Failure::new("a backup of an expired drop could still be opened"));
        }
        self.shell(format_args!(
            "sealdrop open --identity lab.identity backup-of-lab.dcm   # copied from the disk before"
        ));
        String::from_utf8_lossy(&output.stderr).lines().for_each(|line| self.output(line));
        self.tell("Expired is gone: from the server, and from every copy of its disk, since their key is destroyed.");
        Ok(())
    }

    fn read_the_log(&self) -> Result<(), Failure> {
        self.heading("And all of it is in the audit log");
        let path = format!("/radiology/{NAME}");
        let mut audit = this_program()?;
        audit.args(["audit", "--path", &path, "--config"]).arg(self.place.config());
        let output = client::with_input(audit, b"")?;
        if !output.status.success() {
            return Err(Failure::new(format_args!("`sealdrop audit` failed: {}", last_words(&output))));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        self.shell(format_args!("sealdrop audit --path {path}"));
        lines.iter().for_each(|line| self.output(line));
        self.tell("Each line is hash-linked to the one before; the receipt still verifies, long after the file.");
        Ok(())
    }

    fn open(&self, sealed: &Path, to: &Path) -> Result<std::process::Output, Failure> {
        let mut open: Command = this_program()?;
        open.arg("open").arg("--identity").arg(self.place.lab_identity()).arg("--output").arg(to).arg(sealed);
        client::with_input(open, b"")
    }

    fn same(&self, path: &Path) -> Result<(), Failure> {
        if read(path)? == study() {
            self.shell(format_args!("cmp {NAME} {}", path.file_name().unwrap_or_default().display()));
            return Ok(());
        }
        Err(Failure::new(format_args!("{} is not what the partner pushed", path.display())))
    }

    fn heading(&self, text: &str) {
        self.say.line(format_args!("\n{}", self.say.tone(Tone::Strong, text)));
    }

    fn tell(&self, text: impl std::fmt::Display) {
        self.say.line(format_args!("  {text}"));
    }

    fn shell(&self, command: impl std::fmt::Display) {
        self.say.line(format_args!("  {}", self.say.tone(Tone::Tip, format_args!("$ {command}"))));
    }

    fn output(&self, line: &str) {
        self.say.line(format_args!("    {}", self.say.tone(Tone::Quiet, line)));
    }
}

/// Like a DICOM file: 128 bytes of preamble, the magic, a readable header, an image; more than a dozen records.
fn study() -> Vec<u8> {
    let mut content = vec![0; 128];
    content.extend_from_slice(b"DICM");
    content.extend_from_slice(PATIENT.as_bytes());
    content.extend_from_slice(b" CHEST PA AND LATERAL\0");
    let mut pixel = 0x9e37_79b9_u32;
    while content.len() < 1_000_000 {
        pixel = pixel.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        content.extend_from_slice(&(pixel >> 20).to_le_bytes()[..2]);
    }
    content.truncate(1_000_000);
    content
}

struct Searched {
    files: u64,
    bytes: u64,
}

/// Fails if `needle` is in the content or the name of any file below `dir`.
fn search(dir: &Path, needle: &[u8]) -> Result<Searched, Failure> {
    let mut searched = Searched { files: 0, bytes: 0 };
    let cannot = |path: &Path, e: std::io::Error| Failure::new(format_args!("cannot search {}: {e}", path.display()));
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| cannot(&dir, e))? {
            let entry = entry.map_err(|e| cannot(&dir, e))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|e| cannot(&dir, e))?);
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() {
                let mut content = Vec::new();
                let length = fs::File::open(&path)
                    .and_then(|mut file| file.read_to_end(&mut content))
                    .map_err(|e| cannot(&path, e))?;
                searched.files += 1;
                searched.bytes += length as u64;
                if content.windows(needle.len()).any(|window| window == needle) {
                    return Err(Failure::new(format_args!("plaintext is on disk, in {}", path.display())));
                }
            }
        }
    }
    Ok(searched)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| Failure::new(format_args!("cannot read {}: {e}", path.display())))
}

/// As `hexdump -C` prints it, less the addresses.
fn hexdump(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|row| {
            let hex: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
            let text: String = row.iter().map(|&b| if (0x20..0x7f).contains(&b) { b as char } else { '.' }).collect();
            format!("{:<47}  |{text}|", hex.join(" "))
        })
        .collect()
}

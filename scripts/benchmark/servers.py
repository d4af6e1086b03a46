"""The servers that are compared, each in a control group of its own, and the directory they share."""

import json
import mmap
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target/release/sealdrop"
CIPHER = "aes256-gcm@openssh.com"
GROUPS = Path("/sys/fs/cgroup")


def check_machine(program):
    """Says what is missing before anything is started."""
    if os.geteuid() != 0:
        sys.exit("scripts/bench needs root: control groups, a chroot for sshd, a file system of its own")
    if not program.exists():
        sys.exit(f"{program} is missing: cargo build --release --locked")
    for needed in ("/usr/sbin/sshd", "/usr/bin/sftp", "/usr/bin/ssh-keygen"):
        if not Path(needed).exists():
            sys.exit(f"{needed} is missing: apt-get install openssh-server openssh-client")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def take_memory():
    """Takes 4 GiB of memory and lets them go. A virtual machine gives what is free back to its host, and whoever takes it again
    waits up to a second for each GiB; like this it is there, whoever's turn it is."""
    mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


class Group:
    """A control group: what all processes of one server use, those that have ended too."""

    def __init__(self, name):
        self.v1 = (GROUPS / "cpuacct").is_dir()
        base = GROUPS / "cpuacct" if self.v1 else GROUPS
        self.path = base / f"sealdrop-bench-{os.getpid()}-{name}"
        self.path.mkdir()

    def enter(self):
        """In the child, before it becomes the server."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def cpu(self):
        """Seconds of processor time since the group was made."""
        if self.v1:
            return int((self.path / "cpuacct.usage").read_text()) / 1e9
        return int(re.search(r"usage_usec (\d+)", (self.path / "cpu.stat").read_text())[1]) / 1e6

    def pids(self):
        return [int(pid) for pid in (self.path / "cgroup.procs").read_text().split()]

    def memory(self):
        """Proportional set size of all its processes, in bytes."""
        total = 0
        for pid in self.pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            total += int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1]) << 10
        return total

    def close(self):
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 10
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.path.rmdir()


def end(process, seconds):
    """Waits for its end, and makes it where it does not come."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """One of those compared. `up` and `down` are where its users push to and pull from."""

    name = ""
    cipher = CIPHER
    # Programs, and devices by their whole path, without which it is left out.
    needs = ()

    def __init__(self, bench):
        self.bench = bench
        self.dir = bench.dir / self.name.replace(" ", "-")
        self.dir.mkdir()
        self.group = Group(self.name.replace(" ", "-"))
        self.port = free_port()
        self.process = None
        # From here on it is stopped with the others, also when its start does not succeed.
        bench.kept[self.name] = self

    def user(self, pulling):
        """Who pushes, or pulls; with most servers the same."""
        del pulling
        return "root"

    def key(self, pulling):
        """The file of that user's private key."""
        del pulling
        return self.dir / "user"

    def spawn(self, command, **more):
        """In a session of its own: an interrupt from the terminal is for this program, which then stops its servers in order."""
        return subprocess.Popen(command, preexec_fn=self.group.enter, stdin=subprocess.PIPE, start_new_session=True, **more)

    def wait_until_it_listens(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{self.name} does not listen")

    def options(self, pulling=False):
        """Options that any OpenSSH client takes."""
        pairs = {
            "BatchMode": "yes", "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null", "IdentitiesOnly": "yes", "IdentityAgent": "none",
            "LogLevel": "ERROR", "Port": self.port, "IdentityFile": self.key(pulling),
        }
        return ["-F", "/dev/null", *(word for name, value in pairs.items() for word in ("-o", f"{name}={value}"))]

    def sftp(self, lines, pulling=False, more=(), **popen):
        """Stock sftp at work on a batch; the process."""
        batch = tempfile.NamedTemporaryFile("w", dir=self.bench.dir, suffix=".batch", delete=False)
        batch.write("\n".join(lines) + "\n")
        batch.close()
        command = ["sftp", "-q", *more, "-c", self.cipher, *self.options(pulling), "-b", batch.name,
                   f"{self.user(pulling)}@127.0.0.1"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **popen)

    def run(self, lines, **options):
        """The same, and to its end."""
        process = self.sftp(lines, stderr=subprocess.PIPE, **options)
        _, said = process.communicate()
        if process.returncode:
            sys.exit(f"sftp failed on {self.name}: {said.decode(errors='replace')}")

    def settle(self):
        """Waits until the sessions of the work before are gone and their processor time is counted."""
        deadline = time.monotonic() + 10
        while len(self.group.pids()) > self.resting and time.monotonic() < deadline:
            time.sleep(0.02)

    def settle_count(self):
        time.sleep(0.3)
        self.resting = len(self.group.pids())

    def stop(self):
        if self.process:
            self.process.terminate()
            end(self.process, 20)
        self.group.close()


class Sealdrop(Server):
    name = "sealdrop"

    def __init__(self, bench):
        super().__init__(bench)
        command = [bench.program, "demo", "--dir", self.dir / "demo", "--listen", f"127.0.0.1:{self.port}", "--keep", "--json"]
        self.process = self.spawn(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = json.loads(self.process.stdout.readline())
        self.up, self.down = "/radiology", "/inbox/partner"
        self.settle_count()

    def user(self, pulling):
        return "radiology" if pulling else "partner"

    def key(self, pulling):
        return self.dir / "demo/keys" / self.user(pulling)

    def tree(self, pulling=False):
        """Where its users' files are on disk."""
        return Path(self.ready["state"]) / "jails" / self.user(pulling)


class OpenSSH(Server):
    name = "openssh"

    def __init__(self, bench):
        super().__init__(bench)
        self.up = self.down = "/files"
        (self.dir / "chroot/files").mkdir(parents=True)
        os.chmod(self.dir / "chroot", 0o755)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True)
        shutil.copy(self.dir / "user.pub", self.dir / "authorized_keys")
        Path("/run/sshd").mkdir(exist_ok=True)
        (self.dir / "config").write_text("\n".join([
            f"ListenAddress 127.0.0.1:{self.port}", f"HostKey {self.dir}/host", f"AuthorizedKeysFile {self.dir}/authorized_keys",
            "PidFile none", "StrictModes no", "UsePAM no", "PermitRootLogin yes", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "MaxStartups 1000", "MaxSessions 1000", "PrintMotd no", "UseDNS no",
            "Subsystem sftp internal-sftp", f"ChrootDirectory {self.dir}/chroot", "ForceCommand internal-sftp", "LogLevel ERROR", ""]))
        command = ["/usr/sbin/sshd", "-D", "-e", "-f", self.dir / "config"]
        self.process = self.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_until_it_listens()
        self.settle_count()

    def tree(self, pulling=False):
        del pulling
        return self.dir / "chroot"


class OnGocryptfs(OpenSSH):
    """OpenSSH whose files lie on gocryptfs: AES-256-GCM at rest, no receipt, no recipient. gocryptfs is in the same control group."""

    name = "openssh on gocryptfs"
    needs = ("gocryptfs", "/dev/fuse")
    mounted = None

    def __init__(self, bench):
        super().__init__(bench)
        cipher, self.plain = self.dir / "cipher", self.dir / "chroot/files"
        cipher.mkdir()
        subprocess.run(["gocryptfs", "-q", "-init", "-extpass", "echo bench", cipher], check=True)
        self.mounted = self.spawn(["gocryptfs", "-q", "-fg", "-extpass", "echo bench", cipher, self.plain], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not os.path.ismount(self.plain):
            if self.mounted.poll() is not None or time.monotonic() > deadline:
                sys.exit("gocryptfs does not mount")
            time.sleep(0.05)
        self.settle_count()

    def stop(self):
        with ExitStack() as ending:
            ending.callback(super().stop)
            if self.mounted:
                # Told to end, it unmounts; of one that crashed, the mount is still there.
                self.mounted.terminate()
                end(self.mounted, 10)
                subprocess.run(["umount", "-l", self.plain], stderr=subprocess.DEVNULL, check=False)


class RcloneCrypt(Server):
    """rclone's own SFTP server on its crypt remote."""

    name = "rclone crypt"
    needs = ("rclone",)
    # All that Debian's knows of AES-GCM, and the faster one.
    cipher = "aes128-gcm@openssh.com"

    def __init__(self, bench):
        super().__init__(bench)
        self.up = self.down = "/"
        (self.dir / "cipher").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / "user"], check=True)
        obscured = subprocess.run(["rclone", "obscure", "bench"], check=True, capture_output=True, text=True).stdout.strip()
        environment = {**os.environ, "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_C_TYPE": "crypt", "RCLONE_CONFIG_C_REMOTE": str(self.dir / "cipher"),
                       "RCLONE_CONFIG_C_PASSWORD": obscured}
        command = ["rclone", "serve", "sftp", "c:", "--addr", f"127.0.0.1:{self.port}", "--authorized-keys", self.dir / "user.pub",
                   "--user", "root", "--vfs-cache-mode", "off", "--cache-dir", self.dir / "cache"]
        self.process = self.spawn(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_until_it_listens()
        self.settle_count()


class Bench:
    """One run: a directory on a fresh file system, the files that are sent, and the servers as they are needed."""

    def __init__(self, program, scale, room=24 << 30, beside=0):
        """`room` is what the disk of the servers has, `beside` what is needed for files that are sent from below it."""
        self.program, self.scale, self.room, self.beside = program.resolve(), scale, room, beside
        self.kept, self.undone = {}, ExitStack()

    def __enter__(self):
        needed, free = self.room + self.beside, shutil.disk_usage("/mnt").free
        if needed > free:
            sys.exit(f"this needs {needed / (1 << 30):.0f} GiB below /mnt, where {free / (1 << 30):.0f} are free")
        with ExitStack() as undone:
            # Not below /tmp: sshd refuses a chroot that others could rename a part of.
            self.dir = Path(tempfile.mkdtemp(prefix="sealdrop-bench-", dir="/mnt"))
            undone.callback(shutil.rmtree, self.dir, ignore_errors=True)
            self.disk = Disk(self.dir, self.room, undone)
            undone.callback(self.stop)
            self.undone = undone.pop_all()
        return self

    def __exit__(self, *failure):
        # A second interrupt would leave servers, a mount and 24 GiB behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.undone.close()

    def stop(self):
        """Every server, also when one of them does not stop as it should."""
        with ExitStack() as stopping:
            for server in self.kept.values():
                stopping.callback(server.stop)
            self.kept = {}

    def server(self, kind):
        """Of each kind one, started when it is first asked for."""
        if kind.name not in self.kept:
            kind(self)
        return self.kept[kind.name]

    def fresh(self):
        """Every server is stopped and the disk made anew: what one work left does not weigh on the next."""
        self.stop()
        self.disk.renew()

    def size(self, count):
        return max(1, int(count * self.scale))

    def file(self, name, size):
        """Random bytes, outside the disk that is measured: read from memory."""
        path = Path(f"/dev/shm/sealdrop-bench-{os.getpid()}-{name}")
        if not path.exists():
            self.disk.also(path)
            with path.open("wb") as out:
                for at in range(0, size, 1 << 20):
                    out.write(os.urandom(min(1 << 20, size - at)))
        return path

    def folder(self, name, count, size):
        path = Path(f"/dev/shm/sealdrop-bench-{os.getpid()}-{name}")
        if not path.exists():
            path.mkdir()
            self.disk.also(path)
            for number in range(count):
                (path / f"image-{number:05}.dcm").write_bytes(os.urandom(size))
        return path


class Disk:
    """An ext4 file system of its own, made fresh for every work: an allocator that has been busy for hours is slower.

    Its image has its room beforehand and is written past the page cache. Otherwise each block is copied and kept twice, and each
    fsync is also one of the file system below, which has to find room first: costs that no server has, of the order of all others."""

    def __init__(self, where, size, undone):
        """What it makes is taken away by `undone`, however far it came."""
        self.where, self.made, self.device = where, [], None
        self.image = where.with_suffix(".img")
        undone.callback(self.close)
        with self.image.open("wb") as image:
            os.posix_fallocate(image.fileno(), 0, size)
        attach = ["losetup", "--direct-io=on", "--sector-size=4096", "--find", "--show", self.image]
        self.device = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        self.mount()

    def mount(self):
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", self.device], check=True)
        subprocess.run(["mount", self.device, self.where], check=True)

    def renew(self):
        subprocess.run(["umount", self.where], check=True)
        self.mount()

    def also(self, path):
        self.made.append(path)

    def close(self):
        for path in self.made:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if os.path.ismount(self.where):
            subprocess.run(["umount", "-l", self.where], check=False)
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], check=False)
        self.image.unlink(missing_ok=True)

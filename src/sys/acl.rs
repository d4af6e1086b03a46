//! Who may use a file beyond its owner and one group: a POSIX access list, as the kernel takes it in an extended attribute
//! (linux/posix_acl_xattr.h). For the admin socket, which several groups may connect to and nobody else.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;

const VERSION: u32 = 2;
const OWNER: u16 = 0x01;
const FILE_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;
const NO_ID: u32 = u32::MAX;
const READ_WRITE: u16 = 6;

/// Lets the owner and these groups use the file, and nobody else. One group is the file's own, as people expect; several need
/// a file system with access lists.
pub fn only_for(path: &Path, gids: &[u32]) -> io::Result<()> {
    let mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    match gids {
        [] => mode(0o600),
        [gid] => {
            chown(path, None, Some(*gid))?;
            mode(0o660)
        }
        gids => {
            let name = CString::new(path.as_os_str().as_bytes())?;
            let list = encoded(gids);
            // SAFETY: two C strings, and a buffer with its length; the kernel only reads them.
            let done = unsafe {
                libc::setxattr(name.as_ptr(), c"system.posix_acl_access".as_ptr(), list.as_ptr().cast(), list.len(), 0)
            };
            Ok(Errno::result(done).map(drop)?)
        }
    }
}

/// In the order the kernel wants: by tag, then by id.
fn encoded(gids: &[u32]) -> Vec<u8> {
    let mut gids = gids.to_vec();
    gids.sort_unstable();
    gids.dedup();
    let mut entries = vec![(OWNER, READ_WRITE, NO_ID), (FILE_GROUP, 0, NO_ID)];
    entries.extend(gids.into_iter().map(|gid| (GROUP, READ_WRITE, gid)));
    entries.extend([(MASK, READ_WRITE, NO_ID), (OTHERS, 0, NO_ID)]);
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_the_kernel_takes() {
        let list = encoded(&[60, 29, 60]);
        assert_eq!(list.len(), 4 + 6 * 8);
        assert_eq!(list.get(20..36), Some(&[8, 0, 6, 0, 29, 0, 0, 0, 8, 0, 6, 0, 60, 0, 0, 0][..]));
    }

    #[test]
    fn without_a_group_it_is_the_owners_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        only_for(file.path(), &[]).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

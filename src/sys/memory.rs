//! A page of its own for one secret: never in a swap file, never in a core, wiped when it goes.

use std::io;
use std::ptr::NonNull;

use nix::errno::Errno;
use zeroize::Zeroize;

/// 32 bytes in a page that holds nothing else.
pub struct Locked {
    page: NonNull<[u8; 32]>,
}

/// One page; the kernel rounds up to its own size.
const LENGTH: usize = 4096;

impl Locked {
    /// Takes the secret over and wipes where it came from. Memory that may not be locked (RLIMIT_MEMLOCK) is used all the
    /// same: swap is encrypted or off on a machine that holds keys, and no key at all would help nobody.
    pub fn take(secret: &mut [u8; 32]) -> io::Result<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(Errno::last().into());
        }
        let page = NonNull::new(page.cast()).ok_or(Errno::ENOMEM)?;
        let mut locked = Self { page };
        // SAFETY: both name the page that was mapped just now, and change nothing of what it holds.
        unsafe {
            libc::mlock(page.as_ptr().cast(), LENGTH);
            libc::madvise(page.as_ptr().cast(), LENGTH, libc::MADV_DONTDUMP);
        }
        locked.get_mut().copy_from_slice(secret);
        secret.zeroize();
        Ok(locked)
    }

    pub fn get(&self) -> &[u8; 32] {
        // SAFETY: the page is mapped and this value's alone for as long as it lives; any bytes are an array of bytes.
        unsafe { self.page.as_ref() }
    }

    fn get_mut(&mut self) -> &mut [u8; 32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { self.page.as_mut() }
    }
}

// SAFETY: the page belongs to no thread; it is plain memory that this value owns.
unsafe impl Send for Locked {}
// SAFETY: shared, it can only be read.
unsafe impl Sync for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        self.get_mut().zeroize();
        // SAFETY: mapped by `take` with this length, and nothing borrowed from it outlives this value.
        unsafe { libc::munmap(self.page.as_ptr().cast(), LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_moves_into_its_page_and_leaves_nothing_where_it_was() {
        let mut secret = [7; 32];
        let locked = Locked::take(&mut secret).unwrap();
        assert_eq!((secret, *locked.get()), ([0; 32], [7; 32]));
        let address = format!("{:x}-", locked.get().as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = maps.split_once(&address).and_then(|(_, rest)| rest.split_once("VmFlags:")).unwrap().1;
        // "do not dump", in the kernel's two letters (proc(5)).
        assert!(flags.lines().next().unwrap().split_whitespace().any(|flag| flag == "dd"), "{flags}");
    }
}

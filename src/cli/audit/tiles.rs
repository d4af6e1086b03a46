//! The tree of the log as files (c2sp.org/tlog-tiles): a tile holds 256 hashes of one level, every eighth level has
//! tiles. Readers of transparency logs find their way in them; ours takes from them the leaf that an event had.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::merkle::{Frontier, Hash, Node};

/// Hashes in a whole tile.
const WIDTH: u64 = 256;

/// Writes the tiles of a log that is told leaf by leaf.
pub struct TileWriter {
    dir: PathBuf,
    log: Frontier,
    /// Of each level the tile that is not whole yet.
    open: Vec<Vec<u8>>,
}

impl TileWriter {
    /// Of a log that was pruned the tiles hold zeros where the hashes went with their events, as far as a tile is written
    /// at all.
    pub fn new(dir: &Path, log: Frontier) -> Self {
        let open = |level: u32| vec![0; usize::try_from((log.size() >> (8 * level)) % WIDTH).unwrap_or(0) * 32];
        let open = (0..8).map(open).collect();
        Self { dir: dir.to_owned(), log, open }
    }

    pub fn push(&mut self, leaf: Hash) -> io::Result<()> {
        let number = self.log.size();
        let complete = self.log.push(leaf);
        self.put(Node { level: 0, index: number }, leaf)?;
        for (node, hash) in complete.into_iter().filter(|(node, _)| node.level % 8 == 0) {
            self.put(node, hash)?;
        }
        Ok(())
    }

    fn put(&mut self, node: Node, hash: Hash) -> io::Result<()> {
        let level = usize::from(node.level / 8);
        self.open[level].extend_from_slice(&hash);
        if node.index % WIDTH == WIDTH - 1 {
            let tile = std::mem::take(&mut self.open[level]);
            save(&path(&self.dir, level, node.index / WIDTH, None), &tile)?;
        }
        Ok(())
    }

    /// Writes what is not whole.
    pub fn finish(self) -> io::Result<Frontier> {
        for (level, tile) in self.open.iter().enumerate().filter(|(_, tile)| !tile.is_empty()) {
            let hashes = self.log.size() >> (8 * level);
            save(&path(&self.dir, level, hashes / WIDTH, Some(hashes % WIDTH)), tile)?;
        }
        Ok(self.log)
    }
}

/// Reads leaves in their order.
pub struct Leaves {
    dir: PathBuf,
    size: u64,
    /// The tile that was read last.
    tile: Option<(u64, Vec<u8>)>,
}

impl Leaves {
    /// Of an export that says to have `size` events.
    pub fn new(dir: &Path, size: u64) -> Self {
        Self { dir: dir.to_owned(), size, tile: None }
    }

    /// `None` beyond the end, and where a tile is missing or cut.
    pub fn get(&mut self, event: u64) -> Option<Hash> {
        if event >= self.size {
            return None;
        }
        let number = event / WIDTH;
        if self.tile.as_ref().is_none_or(|(held, _)| *held != number) {
            let part = (number == self.size / WIDTH).then_some(self.size % WIDTH);
            self.tile = Some((number, fs::read(path(&self.dir, 0, number, part)).unwrap_or_default()));
        }
        let at = usize::try_from(event % WIDTH).ok()? * 32;
        self.tile.as_ref()?.1.get(at..at + 32)?.try_into().ok()
    }
}

/// `tile/0/x001/x234/067`, and of one that is not whole `….p/17`.
fn path(dir: &Path, level: usize, number: u64, part: Option<u64>) -> PathBuf {
    let mut groups = vec![format!("{:03}", number % 1000)];
    let mut rest = number / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    groups.reverse();
    let mut name = groups.join("/");
    if let Some(width) = part {
        name.push_str(&format!(".p/{width}"));
    }
    dir.join("tile").join(level.to_string()).join(name)
}

fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::merkle::{leaf_hash, node_hash};

    #[test]
    fn tiles_have_the_names_and_the_hashes_of_the_specification() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = TileWriter::new(dir.path(), Frontier::empty());
        let leaf = |n: u64| leaf_hash(&n.to_be_bytes());
        for n in 0..600 {
            writer.push(leaf(n)).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(fs::read(dir.path().join("tile/0/001")).unwrap().len(), 256 * 32);
        assert_eq!(fs::read(dir.path().join("tile/0/002.p/88")).unwrap().len(), 88 * 32);
        let mut level: Vec<Hash> = (0..256).map(leaf).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(|two| node_hash(&two[0], &two[1])).collect();
        }
        assert_eq!(fs::read(dir.path().join("tile/1/000.p/2")).unwrap()[..32], level[0]);
        let mut leaves = Leaves::new(dir.path(), 600);
        assert_eq!((leaves.get(0), leaves.get(599), leaves.get(600)), (Some(leaf(0)), Some(leaf(599)), None));
        assert_eq!(path(Path::new(""), 0, 1_234_067, None), Path::new("tile/0/x001/x234/067"));
        assert_eq!(path(Path::new(""), 2, 5, Some(3)), Path::new("tile/2/005.p/3"));
    }
}

//! What a tile keeps of its first quarters for the later ones, and where.

use super::column::Vector;
use std::mem::MaybeUninit;

pub(super) const LINE_BYTES: usize = 64;
/// The first cache finds a line by its place in such a page.
pub(super) const PAGE_BYTES: usize = 4096;
/// A tile is so wide that the stores of one quarter have left the store buffer before the next one
/// loads: the rows of a large table all fall into one set of the first cache, which holds 8 or 12.
pub(super) const fn tile_bytes(quarter: usize) -> usize {
    if quarter == 8 { 8 * LINE_BYTES } else { 16 * LINE_BYTES }
}

/// What a tile keeps of its first three quarters, two at once.
#[repr(C, align(4096))]
pub(super) struct Kept([MaybeUninit<u8>; 3 * PAGE_BYTES]);

/// Where a tile keeps what it needs again.
#[derive(Clone, Copy)]
pub(super) struct Places<V> {
    pub(super) kept: *mut V,
    /// The first vector of the tile.
    pub(super) tile: *mut V,
}

impl<V> Places<V> {
    /// The place of `G` vectors. Eight rows of a tile leave little room in its sets of the first cache,
    /// so these go into the other sets.
    ///
    /// # Safety
    /// There are two places for each column of a tile.
    #[inline(always)]
    pub(super) unsafe fn at<const G: usize>(self, place: usize) -> *mut V {
        let bytes = G * size_of::<V>();
        let offset = if G == 8 {
            let places = (PAGE_BYTES - tile_bytes(G)) / bytes;
            let tile = self.tile as usize / tile_bytes(G) * tile_bytes(G);
            let in_page = tile + tile_bytes(G) + place % places * bytes;
            place / places * PAGE_BYTES + in_page % PAGE_BYTES
        } else {
            place * bytes
        };
        // SAFETY: 16 lines of four vectors, twice, take two pages; 8 of eight, in what a tile leaves
        // of a page, three.
        unsafe { self.kept.byte_add(offset) }
    }
}

/// Keeps `G` vectors for later quarters.
///
/// # Safety
/// There is room for them.
#[inline(always)]
pub(super) unsafe fn keep<V: Vector, const G: usize>(to: *mut V, rows: [V; G]) {
    // SAFETY: the caller has the room.
    unsafe { to.cast::<[V; G]>().write(rows) }
}

/// What was kept.
///
/// # Safety
/// It was.
#[inline(always)]
pub(super) unsafe fn kept_at<V: Vector, const G: usize>(from: *mut V) -> [V; G] {
    // SAFETY: the caller kept it.
    unsafe { from.cast::<[V; G]>().read() }
}

//! Where things are below the directory of a log (C2SP tlog-tiles). Invariant: full and partial tiles never share a name.

/// Hashes in a full tile, and records in a full bundle.
pub(crate) const WIDTH: u64 = 256;

/// The tile of this level and index; `width` below [`WIDTH`] makes it a partial one.
pub(crate) fn hashes(level: usize, index: u64, width: u64) -> String {
    format!("tile/{level}/{}", at(index, width))
}

/// The bundle of records that belongs to the tile of level 0 of this index.
pub(crate) fn entries(index: u64, width: u64) -> String {
    format!("tile/entries/{}", at(index, width))
}

/// The directory of the partial ones of this full one.
pub(crate) fn partials_of(full: &str) -> String {
    format!("{full}.p")
}

fn at(index: u64, width: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    match width < WIDTH {
        true => format!("{path}.p/{width}"),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(hashes(0, 1_234_067, WIDTH), "tile/0/x001/x234/067");
        assert_eq!(hashes(1, 0, 17), "tile/1/000.p/17");
        assert_eq!(entries(1000, WIDTH), "tile/entries/x001/000");
        assert_eq!(entries(273, 112), "tile/entries/273.p/112");
    }
}

//! The Hilbert curve, along which neighbours in memory stay neighbours in the picture.

/// Where step `step` of the curve lies in a square of `side` pixels, a power of two. It starts at the top left and
/// ends at the top right.
pub(super) fn position(side: u32, step: u32) -> (u32, u32) {
    let (mut x, mut y, mut rest, mut size) = (0, 0, step, 1);
    while size < side {
        let right = (rest / 2) & 1;
        let down = (rest ^ right) & 1;
        if down == 0 {
            if right == 1 {
                (x, y) = (size - 1 - x, size - 1 - y);
            }
            (x, y) = (y, x);
        }
        x += size * right;
        y += size * down;
        rest /= 4;
        size *= 2;
    }
    (x, y)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_curve_visits_every_pixel_once_and_never_jumps() {
        let path: Vec<_> = (0..256).map(|step| position(16, step)).collect();
        assert_eq!(path.iter().collect::<BTreeSet<_>>().len(), 256);
        assert!(path.windows(2).all(|w| w[0].0.abs_diff(w[1].0) + w[0].1.abs_diff(w[1].1) == 1));
        assert_eq!((path[0], path[255]), ((0, 0), (15, 0)));
    }
}

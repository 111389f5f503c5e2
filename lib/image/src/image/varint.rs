//! Numbers of variable length: 7 bits per byte, low bits first, the top bit says that more follow (LEB128).

/// Adds `value` to `out`.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes bytes off the front of a slice; `None` when there are too few.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (now, later) = self.0.split_at_checked(len)?;
        self.0 = later;
        Some(now)
    }

    /// So many records of 32 bytes.
    pub(super) fn digests(&mut self, count: usize) -> Option<Vec<[u8; 32]>> {
        Some(self.bytes(count.checked_mul(32)?)?.as_chunks().0.to_vec())
    }

    /// A number in its shortest form. Others are refused, so that every value has one encoding.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes(1)?.first_chunk::<1>().copied()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low || (byte == 0 && shift > 0) {
                return None;
            }
            value |= low << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn number32(&mut self) -> Option<u32> {
        self.number().and_then(|value| u32::try_from(value).ok())
    }
}

/// A difference of two 32-bit numbers, small ones of either sign first (zigzag).
pub(super) fn difference(from: u32, to: u32) -> u64 {
    let delta = i64::from(to) - i64::from(from);
    ((delta << 1) ^ (delta >> 63)) as u64
}

/// Undoes [`difference`]; `None` when the result is no 32-bit number.
pub(super) fn apply(from: u32, difference: u64) -> Option<u32> {
    let half = i64::try_from(difference >> 1).ok()?;
    let delta = if difference & 1 == 1 { -half - 1 } else { half };
    u32::try_from(i64::from(from).checked_add(delta)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_differences_come_back(value: u64, from: u32, to: u32) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut cursor = Cursor(&bytes);
            prop_assert_eq!(cursor.number(), Some(value));
            prop_assert!(cursor.0.is_empty());
            prop_assert_eq!(apply(from, difference(from, to)), Some(to));
        }

        #[test]
        fn any_bytes_give_a_number_or_none(bytes: Vec<u8>, from: u32, difference: u64) {
            let mut cursor = Cursor(&bytes);
            while cursor.number().is_some() {}
            let _ = apply(from, difference);
        }
    }

    #[test]
    fn long_forms_and_numbers_that_are_too_large_are_refused() {
        // The wide one would need 65 bits.
        let wide = [[0xff; 9].as_slice(), &[2]].concat();
        for bad in [&[0x80u8, 0][..], &[0xff; 10], &[0x80; 11], &[0x80], &[], &wide] {
            assert_eq!(Cursor(bad).number(), None, "{bad:?}");
        }
        let most = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(Cursor(&most).number(), Some(u64::MAX));
    }
}

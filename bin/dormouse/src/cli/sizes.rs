//! Sizes on the command line.

use dormouse_guest_mem::Bytes;

/// Reads `512M`, `1.5G`, `1GiB` or a count of bytes; units are powers of 1024.
pub(crate) fn parse(text: &str) -> Result<Bytes, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("{text:?} is no size: write it like 512M or 2G")),
    };
    scaled(number, shift).ok_or_else(|| format!("{text:?} is no size: write it like 512M or 2G"))
}

/// `number × 2^shift`, exactly; fractions that are no whole number of bytes are cut off.
fn scaled(number: &str, shift: u32) -> Option<Bytes> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let base = whole.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return (!number.ends_with('.')).then_some(Bytes(base));
    }
    let ten = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = (u128::from(fraction.parse::<u64>().ok()?) << shift) / ten;
    base.checked_add(u64::try_from(part).ok()?).map(Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_spellings_are_understood() {
        for (text, bytes) in [
            ("1G", 1 << 30),
            ("512M", 512 << 20),
            ("1.5g", 3 << 29),
            ("1GiB", 1 << 30),
            ("4KB", 4096),
            ("77", 77),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "1X", "-1G", "1..5G", "1.G", "99999999999T", "1G2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! Spans of time on the command line and in tables.

use jiff::Timestamp;

/// Reads `90`, `90s`, `5m`, `2h` or `1d` as seconds.
pub(crate) fn parse(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no time span: write it like 90s, 5m or 2h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    number.parse::<u32>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)
}

/// How far apart two points in time are, in one unit.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> String {
    short(later.duration_since(earlier).as_secs().unsigned_abs())
}

fn short(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("0", 0)] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
        for text in ["", "m", "1h30m", "-5", "1.5h", "99999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_unit_shown_fits_the_length() {
        for (seconds, text) in [(5, "5s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(short(seconds), text);
        }
    }
}

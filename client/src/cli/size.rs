//! Sizes as people write and read them: 4MiB, 10G, 1.5TiB. Pure. Called by the command line's flags and tables.

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Parses a size. `K`, `M`, ... and `KiB`, `MiB`, ... are powers of 1024; `KB`, `MB`, ... of 1000.
///
/// # Errors
/// What is wrong, for clap.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim().to_ascii_lowercase());
    let wrong = || format!("\"{text}\" is no size; write it as 4MiB, 10G or 1048576");
    let factor = factor_of(&unit).ok_or_else(wrong)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| format!("\"{text}\" is too large"));
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = value * factor as f64;
    if !bytes.is_finite() || bytes < 0.0 || bytes >= u64::MAX as f64 {
        return Err(format!("\"{text}\" is too large"));
    }
    Ok(bytes as u64)
}

fn factor_of(unit: &str) -> Option<u64> {
    if unit.is_empty() || unit == "b" {
        return Some(1);
    }
    let power = "kmgtpe".find(unit.chars().next()?)? as u32 + 1;
    match &unit[1..] {
        "" | "i" | "ib" => Some(1 << (10 * power)),
        "b" => Some(1000u64.pow(power)),
        _ => None,
    }
}

/// For tables: `12.3 GiB`.
pub fn show(bytes: u64) -> String {
    let power = (63 - bytes.max(1).leading_zeros()) / 10;
    if power == 0 {
        return format!("{bytes} B");
    }
    format!("{:.1} {}", bytes as f64 / (1u64 << (10 * power)) as f64, UNITS[power as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4MiB", 4 << 20),
            ("4M", 4 << 20),
            ("4 mb", 4_000_000),
            ("1.5K", 1536),
            ("10G", 10 << 30),
            ("1048576", 1 << 20),
            ("7b", 7),
            ("15EiB", 15 << 60),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "MiB", "4X", "-1", "4MiBs", "1..2M", "x4M", "4é"] {
            assert!(parse(text).unwrap_err().contains("write it as 4MiB"), "{text}");
        }
        assert!(parse("99E").unwrap_err().contains("too large"));
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(4 << 20), "4.0 MiB");
        assert_eq!(show(u64::MAX), "16.0 EiB");
    }
}

//! Control: the questions that `holdfast info` and `holdfast umount` ask a mount, as ioctls on an open file or directory of it.
//! (Not extended attributes: as long as the mount has none, the kernel asks once and never again, instead of before every write.)
//! Called by the adapter, which answers, and by cli/, which asks.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes that one answer carries: header, and a piece of the text. The size field of an ioctl number has 14 bits.
pub const ANSWER_BYTES: usize = 8192;
/// total: u64 LE | text...
pub const HEADER_BYTES: usize = 8;
const PIECE_BYTES: usize = ANSWER_BYTES - HEADER_BYTES;

/// The report on an open file. In: offset u64 LE. Out: total length u64 LE, and the text from there on.
pub const IOCTL_INFO: u32 = ioctl_number(1);
/// Process id of the mount's daemon, the same way.
pub const IOCTL_DAEMON: u32 = ioctl_number(2);

/// _IOWR('H', number, [u8; ANSWER_BYTES]) of asm-generic/ioctl.h.
const fn ioctl_number(number: u32) -> u32 {
    (3 << 30) | ((ANSWER_BYTES as u32) << 16) | ((b'H' as u32) << 8) | number
}

/// The offset in a question; 0 if it has none.
pub fn offset_of(question: &[u8]) -> u64 {
    question.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The piece of `text` from `offset` on.
pub fn answer(text: &str, offset: u64) -> Vec<u8> {
    let start = usize::try_from(offset).map_or(text.len(), |offset| offset.min(text.len()));
    let end = text.len().min(start + PIECE_BYTES);
    let mut answer = (text.len() as u64).to_le_bytes().to_vec();
    answer.extend_from_slice(&text.as_bytes()[start..end]);
    answer
}

/// Asks a mount, through an open file of it, until the text is whole.
///
/// # Errors
/// ENOTTY: the file is not on a Holdfast mount.
pub fn ask(file: &File, number: u32) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0u8; ANSWER_BYTES];
        buffer[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
        // SAFETY: the number says that ANSWER_BYTES are read and written at the pointer, and that is what the buffer has.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::Ioctl::from(number), buffer.as_mut_ptr()) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        let total = offset_of(&buffer) as usize;
        let piece = total.saturating_sub(text.len()).min(PIECE_BYTES);
        text.extend_from_slice(&buffer[HEADER_BYTES..HEADER_BYTES + piece]);
        if piece == 0 || text.len() >= total {
            return String::from_utf8(text).map_err(io::Error::other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_whole_after_its_pieces() {
        let text = "x".repeat(3 * PIECE_BYTES + 5);
        let mut got = 0;
        while got < text.len() {
            let piece = answer(&text, got as u64);
            assert!(piece.len() <= ANSWER_BYTES);
            assert_eq!(offset_of(&piece), text.len() as u64);
            got += piece.len() - HEADER_BYTES;
        }
        assert_eq!(got, text.len());
    }

    #[test]
    fn an_offset_behind_the_end_gives_nothing() {
        assert_eq!(answer("abc", u64::MAX).len(), HEADER_BYTES);
        assert_eq!(offset_of(b"short"), 0);
    }
}

//! Each way in which data can go wrong, and what the application is told: never wrong bytes, never silence.

use super::model_test::{fixture, read_all, small};
use super::{Data, DataConfig, Tuning};
use crate::error::ClientError;
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::limits::{BLOCK_BYTES_MIN, CHUNK_BYTES};
use std::time::Duration;

const INO: u64 = 3;

fn fill(byte: u8, len: usize) -> Bytes {
    vec![byte; len].into()
}

#[tokio::test]
async fn a_small_file_costs_one_put_and_one_commit() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(1, 4096)).await.expect("write");
    let attr = f.data.flush(&file).await.expect("flush").expect("a commit happened");
    assert_eq!(attr.size, 4096);
    assert_eq!(f.data.flush(&file).await, Ok(None));
    f.data.release(file).await;
    assert_eq!((f.fault.counts().puts, f.meta.commits()), (1, 1));
}

#[tokio::test]
async fn writes_that_follow_each_other_share_slices_and_blocks() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    for n in 0..64 {
        f.data.write(&file, n * 4096, fill(n as u8, 4096)).await.expect("write");
    }
    // A rewrite of what is still in the open buffer is no slice of its own.
    f.data.write(&file, 64 * 4096, fill(1, 100)).await.expect("write");
    f.data.write(&file, 64 * 4096 + 10, fill(2, 10)).await.expect("write");
    f.data.flush(&file).await.expect("flush");
    assert_eq!((f.fault.counts().puts, f.meta.commits()), (5, 1));
    assert_eq!(read_all(&f, &file, 64 * 4096 + 9, 12).await, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
}

#[tokio::test]
async fn a_later_write_wins_also_where_an_older_slice_could_grow_over_it() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(1, 100)).await.expect("write");
    f.data.write(&file, 150, fill(2, 100)).await.expect("write");
    // Joins the first slice by its place, but would be hidden by the second.
    f.data.write(&file, 100, fill(3, 100)).await.expect("write");
    let expected = [vec![1; 100], vec![3; 100], vec![2; 50]].concat();
    assert_eq!(read_all(&f, &file, 0, 1000).await, expected);
    f.data.flush(&file).await.expect("flush");
    assert_eq!(read_all(&f, &file, 0, 1000).await, expected);
}

#[tokio::test]
async fn a_failed_upload_fails_flush_and_keeps_the_data_for_the_next() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.fault.set_puts_fail(true);
    f.data.write(&file, 0, fill(9, 100_000)).await.expect("taken");
    for _ in 0..2 {
        let error = f.data.flush(&file).await.expect_err("the store is down");
        assert_eq!(error.errno(), FsErrno::Io);
    }
    assert_eq!(read_all(&f, &file, 0, 200_000).await, vec![9; 100_000]);
    assert_eq!(f.meta.commits(), 0, "nothing is named before it is durable");

    f.fault.set_puts_fail(false);
    f.data.flush(&file).await.expect("flush");
    assert_eq!(f.meta.attr(INO).expect("attr").size, 100_000);
    assert_eq!(read_all(&f, &file, 0, 200_000).await, vec![9; 100_000]);
}

#[tokio::test]
async fn what_a_store_did_not_take_is_sent_again_without_being_asked() {
    let f = fixture(small(), Tuning { dirty_max: Duration::from_millis(20), ..Tuning::default() }).await;
    let file = f.data.open(&f.meta.create(INO));
    f.fault.set_puts_fail(true);
    f.data.write(&file, 0, fill(9, 100_000)).await.expect("taken");
    while f.fault.counts().puts < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(f.meta.commits(), 0);
    f.fault.set_puts_fail(false);
    while f.meta.commits() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(f.meta.attr(INO).expect("attr").size, 100_000);
    assert_eq!(read_all(&f, &file, 0, 200_000).await, vec![9; 100_000]);
}

#[tokio::test]
async fn data_that_cannot_be_saved_is_given_up_at_the_last_close_only() {
    let f = fixture(small(), Tuning::default()).await;
    let attr = f.meta.create(INO);
    let (first, second) = (f.data.open(&attr), f.data.open(&attr));
    f.fault.set_puts_fail(true);
    f.data.write(&first, 0, fill(9, 10)).await.expect("taken");
    f.data.release(first).await;
    assert_eq!(f.data.dirty_size(INO), Some(10));
    assert!(f.data.flush(&second).await.is_err());
    f.data.release(second).await;
    assert!(!f.data.is_open(INO));
    assert_eq!(f.data.buffered_bytes(), 0);
}

#[tokio::test]
async fn a_block_with_a_wrong_byte_is_an_error_and_a_wrong_transfer_is_not() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(5, 1000)).await.expect("write");
    f.data.flush(&file).await.expect("flush");
    let other = Data::new(f.meta.clone(), f.fault.clone(), small());
    let file = other.open(&f.meta.attr(INO).expect("attr"));

    f.fault.set(|faults| faults.gets_wrong = true);
    let error = other.read(&file, 0, 1000).await.expect_err("damaged");
    assert!(matches!(error, ClientError::Damaged(_)) && error.errno() == FsErrno::Io, "{error}");
    f.fault.set(|faults| (faults.gets_wrong, faults.gets_missing) = (false, true));
    let error = other.read(&file, 0, 1000).await.expect_err("missing");
    assert!(matches!(error, ClientError::Damaged(_)), "{error}");

    for once in [true, false] {
        f.fault.set(|faults| {
            faults.gets_missing = false;
            faults.get_wrong_next = u32::from(once);
            faults.get_short_next = u32::from(!once);
        });
        let third = Data::new(f.meta.clone(), f.fault.clone(), small());
        let file = third.open(&f.meta.attr(INO).expect("attr"));
        assert_eq!(third.read(&file, 0, 1000).await.expect("read").concat(), vec![5; 1000]);
    }
}

#[tokio::test]
async fn a_list_that_others_made_old_is_asked_for_again() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(5, 1000)).await.expect("write");
    f.data.flush(&file).await.expect("flush");
    let other = Data::new(f.meta.clone(), f.fault.clone(), DataConfig { cache_bytes_max: 0, ..small() });
    let seen = other.open(&f.meta.attr(INO).expect("attr"));
    assert_eq!(other.read(&seen, 0, 10).await.expect("read").concat(), vec![5; 10]);

    f.data.observe(&f.meta.truncate(INO, 0).expect("file"));
    f.data.write(&file, 0, fill(6, 500)).await.expect("write");
    f.data.flush(&file).await.expect("flush");
    assert_eq!(f.data.reclaim().await, Ok(1));
    assert_eq!(other.read(&seen, 0, 1000).await.expect("read").concat(), vec![6; 500]);
}

#[tokio::test]
async fn a_lost_session_loses_its_data_loudly_and_the_next_one_starts_clean() {
    let f = fixture(small(), Tuning::default()).await;
    let attr = f.meta.create(INO);
    let (first, second) = (f.data.open(&attr), f.data.open(&attr));
    f.data.write(&first, 0, fill(1, 10)).await.expect("write");
    f.data.fence();
    f.meta.set_session(2);
    assert_eq!(f.data.flush(&first).await, Err(ClientError::SessionLost));
    assert_eq!(f.data.flush(&first).await, Ok(None));
    assert_eq!(f.data.flush(&second).await, Err(ClientError::SessionLost));

    // Also where nobody called fence: what was begun under session 2 is not committed under 3.
    f.data.write(&first, 0, fill(2, 10)).await.expect("write");
    f.meta.set_session(3);
    f.data.write(&first, 10, fill(3, 10)).await.expect("write");
    assert_eq!(f.data.flush_ino(INO).await, Err(ClientError::SessionLost));
    f.data.flush(&second).await.expect_err("told once to each handle");
    f.data.flush(&second).await.expect("what session 3 wrote is saved");
    assert_eq!(read_all(&f, &second, 0, 100).await, [vec![0; 10], vec![3; 10]].concat());
}

#[tokio::test]
async fn a_file_that_is_gone_takes_its_data_with_it_and_leaves_no_objects() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(1, 100_000)).await.expect("write");
    f.meta.remove(INO);
    assert_eq!(f.data.flush(&file).await, Err(ClientError::Refused(FsErrno::Stale)));
    assert_eq!(f.data.dirty_size(INO), None);
    assert_eq!(f.data.flush(&file).await, Ok(None));
    assert_eq!(f.fault.counts().deletes, 2);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_not_done_twice() {
    for applied in [true, false] {
        let f = fixture(small(), Tuning::default()).await;
        let file = f.data.open(&f.meta.create(INO));
        f.data.write(&file, 0, fill(1, 10)).await.expect("write");
        f.meta.fail_next_commit(ClientError::Unavailable("no answer".into()), applied);
        assert!(f.data.flush(&file).await.is_err());
        assert_eq!(read_all(&f, &file, 0, 100).await, vec![1; 10]);
        f.data.flush(&file).await.expect("flush");
        assert_eq!(f.meta.commits(), 1);
        assert_eq!(read_all(&f, &file, 0, 100).await, vec![1; 10]);
    }
}

#[tokio::test]
async fn a_full_volume_keeps_the_data_until_there_is_room() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(1, 10)).await.expect("write");
    f.meta.fail_next_commit(ClientError::Refused(FsErrno::NoSpc), false);
    assert_eq!(f.data.flush(&file).await, Err(ClientError::Refused(FsErrno::NoSpc)));
    f.data.flush(&file).await.expect("flush");
    assert_eq!(f.meta.attr(INO).expect("attr").size, 10);
}

#[tokio::test]
async fn written_data_stays_within_its_memory_bound() {
    let config = DataConfig { buffer_bytes_max: 512 << 10, ..small() };
    let f = fixture(config, Tuning::default()).await;
    f.fault.set(|faults| faults.put_delay = Duration::from_millis(2));
    let files: Vec<_> = (1..=20).map(|ino| f.data.open(&f.meta.create(ino))).collect();
    // Many files with half a block each: only sealing them frees anything.
    for (n, file) in files.iter().enumerate() {
        for at in 0..6 {
            f.data.write(file, at * 40_000, fill(n as u8, 40_000)).await.expect("write");
            assert!(f.data.buffered_bytes() <= 512 << 10);
        }
    }
    for (n, file) in files.iter().enumerate() {
        f.data.flush(file).await.expect("flush");
        assert_eq!(read_all(&f, file, 0, 1 << 20).await, vec![n as u8; 240_000]);
    }
    assert!(f.fault.counts().put_bytes_peak <= 512 << 10);
    assert_eq!(f.data.buffered_bytes(), 0);
}

#[tokio::test]
async fn a_store_that_takes_nothing_fails_writes_once_the_buffers_are_full() {
    let tuning = Tuning { memory_wait_max: Duration::from_millis(300), ..Tuning::default() };
    let f = fixture(DataConfig { buffer_bytes_max: 256 << 10, ..small() }, tuning).await;
    let file = f.data.open(&f.meta.create(INO));
    f.fault.set_puts_fail(true);
    let mut taken = 0;
    let error = loop {
        match f.data.write(&file, taken, fill(1, 32 << 10)).await {
            Ok(()) => taken += 32 << 10,
            Err(error) => break error,
        }
    };
    assert_eq!((error.errno(), taken), (FsErrno::Io, 256 << 10));
    f.fault.set_puts_fail(false);
    f.data.flush(&file).await.expect("flush");
    assert_eq!(read_all(&f, &file, 0, 1 << 20).await, vec![1; 256 << 10]);
}

#[tokio::test]
async fn many_small_slices_are_committed_before_they_are_too_many() {
    let f = fixture(small(), Tuning { slices_max: 16, ..Tuning::default() }).await;
    let file = f.data.open(&f.meta.create(INO));
    for n in 0..200_u64 {
        f.data.write(&file, (n * 37 % 200) * 10, fill(n as u8, 5)).await.expect("write");
    }
    assert!(f.meta.commits() > 1);
    f.data.flush(&file).await.expect("flush");
    let got = read_all(&f, &file, 0, 3000).await;
    for n in 0..200_u64 {
        assert_eq!(got[(n * 37 % 200) as usize * 10], n as u8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_writing_commits_each_chunk_as_it_is_full() {
    let block = 1 << 20;
    let config = DataConfig { block_bytes: block, buffer_bytes_max: 16 << 20, ..small() };
    let f = fixture(config, Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    let chunks = 3;
    for n in 0..u64::from(CHUNK_BYTES / block) * chunks {
        f.data.write(&file, n * u64::from(block), fill(n as u8, block as usize)).await.expect("write");
    }
    f.data.flush(&file).await.expect("flush");
    assert!((2..=chunks).contains(&f.meta.commits()), "{} commits", f.meta.commits());
    for n in [0, 63, 64, 191] {
        assert_eq!(read_all(&f, &file, n * u64::from(block), 2).await, vec![n as u8; 2]);
    }
}

#[tokio::test]
async fn one_block_wanted_by_many_is_fetched_once() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    f.data.write(&file, 0, fill(1, BLOCK_BYTES_MIN as usize)).await.expect("write");
    f.data.flush(&file).await.expect("flush");
    let other = Data::new(f.meta.clone(), f.fault.clone(), small());
    let file = other.open(&f.meta.attr(INO).expect("attr"));
    f.fault.set(|faults| faults.get_delay = Duration::from_millis(30));
    let reads = (0..20).map(|n| other.read(&file, n * 1000, 1000));
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.expect("read").concat(), vec![1; 1000]);
    }
    assert_eq!(f.fault.counts().gets, 1);
}

#[tokio::test]
async fn beyond_the_largest_file_is_efbig_and_beyond_the_end_is_nothing() {
    let f = fixture(small(), Tuning::default()).await;
    let file = f.data.open(&f.meta.create(INO));
    let far = holdfast_proto::limits::FILE_BYTES_MAX;
    assert_eq!(f.data.write(&file, far - 1, fill(1, 2)).await, Err(ClientError::Refused(FsErrno::FBig)));
    f.data.write(&file, far - 1, fill(1, 1)).await.expect("the last byte");
    assert_eq!(f.data.dirty_size(INO), Some(far));
    assert_eq!(read_all(&f, &file, far - 3, 100).await, [0, 0, 1]);
    f.data.flush(&file).await.expect("flush");
    assert_eq!(read_all(&f, &file, far - 3, 100).await, [0, 0, 1]);
    assert!(read_all(&f, &file, far, 100).await.is_empty());
    assert!(read_all(&f, &file, u64::MAX, 100).await.is_empty());
}

#[tokio::test]
async fn a_commit_that_nobody_can_tell_of_is_a_loss_that_is_told() {
    let f = fixture(small(), Tuning::default()).await;
    let attr = f.meta.create(INO);
    let (first, second) = (f.data.open(&attr), f.data.open(&attr));
    f.data.write(&first, 0, fill(1, 10)).await.expect("write");
    f.meta.fail_next_commit(ClientError::Unavailable("no answer".into()), true);
    assert!(f.data.flush(&first).await.is_err());
    // Another client empties the file: whether our slices were in it can no longer be seen.
    f.meta.truncate(INO, 0).expect("file");
    assert!(f.data.flush(&first).await.is_err());
    assert_eq!(f.data.flush(&first).await, Ok(None));
    assert!(f.data.flush(&second).await.is_err());
    assert_eq!(f.meta.commits(), 1);
}

//! Files of samples, and what is wrong with some.

use crate::example::data;
use std::path::Path;
use tch::Kind;

/// An IDX file.
pub(crate) fn write_idx(path: &Path, kind: u8, shape: &[u32], data: &[u8]) {
    let mut bytes = vec![0, 0, kind, shape.len() as u8];
    shape.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

/// Images 8×8 of ten classes: a bright bar, on noise, whose place is the class.
pub(crate) fn write_images(directory: &Path, training: u32, test: u32) {
    std::fs::create_dir_all(directory).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    for (part, count) in [("train", training), ("t10k", test)] {
        let labels: Vec<u8> = (0..count).map(|sample| (sample % 10) as u8).collect();
        let mut image = |label: u8| {
            let mut pixels: Vec<u8> = (0..64).map(|_| random.u8(0..90)).collect();
            let start = usize::from(label) * 6;
            pixels[start..start + 6].fill(250);
            pixels
        };
        let images: Vec<u8> = labels.iter().flat_map(|label| image(*label)).collect();
        let path = |name: &str| directory.join(format!("{part}-{name}"));
        write_idx(&path("images-idx3-ubyte"), 8, &[count, 8, 8], &images);
        write_idx(&path("labels-idx1-ubyte"), 8, &[count], &labels);
    }
}

#[test]
fn idx_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    write_images(directory.path(), 20, 10);
    let data = data::load(directory.path()).unwrap();
    assert_eq!(data.training.inputs.size(), [20, 1, 8, 8]);
    assert_eq!(data.test.inputs.size(), [10, 1, 8, 8]);
    assert_eq!((data.training.len(), data.training.labels.kind()), (20, Kind::Int64));
    assert_eq!(data.training.labels.int64_value(&[13]), 3);
    assert!((data.training.inputs.double_value(&[3, 0, 2, 2]) - 250.0 / 255.0).abs() < 1e-6);
    let mislabelled = data::mislabel(&data.training, 0.5).unwrap();
    let changed = data.training.labels.ne_tensor(&mislabelled.labels).sum(Kind::Int64);
    assert!((4..=16).contains(&changed.int64_value(&[])), "{changed:?}");
}

#[test]
fn ids_are_read_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let bytes = |ids: &[i32]| ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>();
    for part in ["train", "t10k"] {
        let ids = bytes(&[101, 2000, 102, 101, 30_521, 102]);
        write_idx(&path(&format!("{part}-ids-idx2-int")), 12, &[2, 3], &ids);
        write_idx(&path(&format!("{part}-labels-idx1-ubyte")), 8, &[2], &[1, 0]);
    }
    let data = data::load(directory.path()).unwrap();
    assert_eq!(
        (data.training.inputs.size(), data.training.inputs.kind()),
        (vec![2, 3], Kind::Int64)
    );
    assert_eq!(data.training.inputs.int64_value(&[1, 1]), 30_521);
    write_idx(&path("train-ids-idx2-int"), 12, &[2, 1], &bytes(&[5, 30_522]));
    refused(directory.path(), "id 30522 is none of 30522 tokens");
}

#[test]
fn cifar_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let record = |label: u8| {
        let mut record = vec![label; 3073];
        record[1 + 1024] = 255;
        record
    };
    for batch in 1..=5u8 {
        let path = directory.path().join(format!("data_batch_{batch}.bin"));
        std::fs::write(path, [record(batch), record(0)].concat()).unwrap();
    }
    std::fs::write(directory.path().join("test_batch.bin"), record(9)).unwrap();
    let data = data::load(directory.path()).unwrap();
    assert_eq!(data.training.inputs.size(), [10, 3, 32, 32]);
    assert_eq!(data.training.inputs.double_value(&[8, 1, 0, 0]), 1.0);
    assert_eq!(data.training.labels.int64_value(&[8]), 5);
    assert_eq!(data.test.labels.int64_value(&[0]), 9);
    std::fs::write(directory.path().join("test_batch.bin"), [1, 2]).unwrap();
    refused(directory.path(), "has 2 bytes, no multiple of 3073");
}

#[test]
fn damaged_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    write_images(directory.path(), 20, 10);
    let images = directory.path().join("train-images-idx3-ubyte");
    let whole = std::fs::read(&images).unwrap();
    for (bytes, part) in [
        (&whole[..whole.len() - 1], "has 1279 bytes for [20, 8, 8]"),
        (&whole[..10], "ends within its header"),
        (&whole[..2], "is no IDX file"),
        (b"\x1f\x8b\x08\x00gz", "is no IDX file"),
    ] {
        std::fs::write(&images, bytes).unwrap();
        refused(directory.path(), part);
    }
    std::fs::remove_file(&images).unwrap();
    refused(directory.path(), "gunzip -k");
    write_images(directory.path(), 20, 10);
    write_idx(&directory.path().join("train-labels-idx1-ubyte"), 8, &[20], &[10; 20]);
    refused(directory.path(), "label 10 is none of 10 classes");
    write_idx(&directory.path().join("train-labels-idx1-ubyte"), 8, &[3], &[1; 3]);
    refused(directory.path(), "20 samples have 3 labels");
}

#[track_caller]
fn refused(directory: &Path, part: &str) {
    let error = format!("{:#}", data::load(directory).expect_err("refused"));
    assert!(error.contains(part), "`{part}` is not in: {error}");
}

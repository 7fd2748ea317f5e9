//! Devices, and what an evaluation may take.

use super::*;
use crate::evaluation::{DeviceChoice, IoPriority, Priority, Settings};

fn with(compute: &str) -> String {
    format!("{GOOD}compute: {compute}\n")
}

fn good(compute: &str) -> Settings {
    Config::parse(Path::new("dir/run.yaml"), &with(compute)).expect("good").network
}

#[test]
fn a_training_beside_it_is_spared_by_default() {
    let usual = good("{}");
    assert_eq!(usual.devices, [DeviceChoice::Auto]);
    assert_eq!((usual.threads, usual.batch, usual.memory), (1, None, 0.5));
    assert_eq!(usual.priority, Priority { nice: 10, io: IoPriority::Low });
    let equal = good("{nice: 0, io: normal, memory: 90%, threads: 4}");
    assert_eq!(equal.priority, Priority { nice: 0, io: IoPriority::Normal });
    assert_eq!((equal.memory, equal.threads), (0.9, 4));
    assert_eq!(good("{memory: 0.25, io: idle}").memory, 0.25);
}

#[test]
fn several_devices_are_of_one_kind() {
    use DeviceChoice::{Cpu, Cuda};
    assert_eq!(good("{device: cpu}").devices, [Cpu]);
    assert_eq!(good("{devices: [cpu, cpu]}").devices, [Cpu, Cpu]);
    assert_eq!(good("{devices: [cuda:1, cuda]}").devices, [Cuda(1), Cuda(0)]);
    assert_eq!(good("{devices: [auto]}").devices, [DeviceChoice::Auto]);
}

#[test]
fn what_is_no_device_share_or_priority_is_refused_at_its_place() {
    for (compute, parts) in [
        ("{device: gpu}", &["compute.device: is `gpu`", "`cuda:N`"][..]),
        ("{devices: []}", &["compute.devices: has 0 devices", "1 to 64"]),
        ("{devices: [cpu, tpu]}", &["compute.devices[1]: is `tpu`", "`cuda:N`"]),
        (
            "{devices: [cpu, 'cuda:0']}",
            &["compute.devices[1]: is `cuda:0`", "is `cpu`", "one kind"],
        ),
        ("{devices: ['cuda:0', cuda]}", &["compute.devices[1]: is `cuda`", "there already"]),
        ("{devices: [auto, auto]}", &["compute.devices[0]: is `auto` among several"]),
        ("{device: cpu, devices: [cpu]}", &["compute.device: stands beside `devices`"]),
        ("{memory: 0}", &["compute.memory: is 0", "above 0, at most 1"]),
        ("{memory: 120%}", &["compute.memory: is 1.2 (`120%`)", "at most 1"]),
        ("{memory: 50}", &["compute.memory: is 50", "such as `50%`"]),
        ("{nice: -5}", &["compute.nice: ", "-5", "expected a whole number of 0 or more"]),
        ("{devices: cpu}", &["compute.devices: ", "\"cpu\"", "expected a list"]),
        ("{device: [cpu, cpu]}", &["compute.device: write one device", "several are `devices: ["]),
        ("cpu", &["compute: ", "expected settings by name"]),
        ("{nice: 20}", &["compute.nice: is 20", "between 0 and 19"]),
        ("{io: last}", &["compute.io: is `last`", "`normal`, `low` or `idle`"]),
    ] {
        let found = lines(&with(compute));
        assert_eq!(found.len(), 1, "{compute}: {found:#?}");
        for part in parts {
            assert!(found[0].contains(part), "{compute}: {found:#?} lacks `{part}`");
        }
    }
    let both = lines(&with("{device: cpu, devices: [cpu, tpu]}"));
    assert_eq!(both.len(), 2, "{both:#?}");
}

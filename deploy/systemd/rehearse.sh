#!/bin/bash
# Boots a small Debian with systemd and runs the unit in it, beside two trainings of examples/pytorch that are units too.
#
#     deploy/systemd/rehearse.sh PROGRAMS PACKAGES OUT
#
# PROGRAMS: the directory of `convergd` and `convergd-torch`. PACKAGES: a `site-packages` of Python 3.11 with torch, numpy,
# safetensors and scikit-learn. OUT: a directory that is not there; what the run has left stands in OUT/root/srv/convergd.
# Needs root and Debian's packages `mmdebstrap` and `systemd-container`.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
programs=$(realpath "$1") packages=$(realpath "$2") out=$3
mkdir "$out"
root=$(realpath "$out")/root

mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,python3 bookworm "$root"
install -m 755 "$programs/convergd" "$programs/convergd-torch" "$root/usr/local/bin/"
install -m 644 -t "$root/etc/systemd/system/" "$here/deploy/systemd/convergd@.service"
mkdir -p "$root/etc/convergd" "$root/opt/packages" "$root/opt/source" "$root/srv/convergd/digits"
echo LIBTORCH=/opt/packages/torch > "$root/etc/convergd/environment"
chroot "$root" useradd --system --home-dir /nonexistent convergd
sed -e 's#\.\./demo-run/##' -e 's#127.0.0.1:0#127.0.0.1:9464#' "$here/config/demo.yaml" > "$root/srv/convergd/digits/run.yaml"

unit() { cat > "$root/etc/systemd/system/$1"; }
training='User=convergd
WorkingDirectory=/srv/convergd/digits
Environment=PYTHONPATH=/opt/packages:/opt/source/python OMP_WAIT_POLICY=PASSIVE HOME=/tmp
UMask=0027'
unit prepare.service <<END
[Service]
Type=oneshot
$training
ExecStart=/usr/bin/python3 /opt/source/examples/pytorch/prepare.py --out .
END
for network in target:11 baseline:22; do
    unit "${network%:*}.service" <<END
[Service]
Type=exec
$training
ExecStart=/usr/bin/python3 /opt/source/examples/pytorch/train.py --run . --network ${network%:*} --seed ${network#*:}
END
done
# Waits until all three have ended, writes down how, and halts.
cat > "$root/usr/local/bin/watch" <<'END'
#!/bin/bash
systemctl start prepare && systemctl start convergd@digits target baseline
for _ in $(seq 150); do
    [ -z "$(systemctl is-active convergd@digits target baseline | grep -v inactive)" ] && break
    sleep 1
done
systemctl show convergd@digits target baseline -p Id,Result,ExecMainStatus,NRestarts,ActiveState > /srv/convergd/digits/systemd.txt
journalctl --no-pager -o cat -u convergd@digits -u target -u baseline -u prepare > /srv/convergd/digits/journal.txt
systemctl --no-block poweroff
END
chmod +x "$root/usr/local/bin/watch"
unit watch.service <<END
[Service]
Type=exec
ExecStart=/usr/local/bin/watch
[Install]
WantedBy=multi-user.target
END
ln -s ../watch.service "$root/etc/systemd/system/multi-user.target.wants/"
chroot "$root" chown -R convergd:convergd /srv/convergd

timeout 300 systemd-nspawn --quiet --register=no --keep-unit --link-journal=no -D "$root" \
    --bind-ro="$packages:/opt/packages" --bind-ro="$here:/opt/source" --boot > "$out/boot.txt" 2>&1 || true
cat "$root/srv/convergd/digits/systemd.txt" "$root/srv/convergd/digits/journal.txt"

#!/bin/sh
# Compares what fragments ask for with the configuration that came of it.
#
#   check-kconfig.sh .CONFIG FRAGMENT...
#
# For the kernel, BusyBox and Buildroot itself. A later fragment or line wins over an earlier one,
# as it does in Kconfig. Exit status 1 and a line for each symbol that is not as asked: it does not
# exist in this version, something that it depends on is off, or something else selects it.
set -eu

config=$1
shift
cat "$@" | awk -v config="$config" '
    function symbol(line) { sub(/^# /, "", line); sub(/[= ].*/, "", line); return line }
    /^(CONFIG|BR2)_[A-Za-z0-9_]+=/ || /^# (CONFIG|BR2)_[A-Za-z0-9_]+ is not set$/ {
        wanted[symbol($0)] = $0
    }
    END {
        while ((getline line < config) > 0)
            if (line ~ /^(# )?(CONFIG|BR2)_/)
                found[symbol(line)] = line
        for (name in wanted) {
            # A symbol that is absent is as good as one that is not set.
            if (!(name in found))
                found[name] = wanted[name] ~ /is not set$/ ? wanted[name] : "nothing"
            if (found[name] != wanted[name]) {
                printf "%s: asked for: %s; found: %s\n", config, wanted[name], found[name] \
                    > "/dev/stderr"
                wrong = 1
            }
        }
        exit wrong
    }
'

#!/bin/sh
# Checks the folder it is in: the receipt, the audit log and every file. With FILE, also that FILE is what was sent.
# Needs ssh-keygen, sha256sum and a POSIX shell. Exit status: 0 good, 1 bad.
#
#   sh verify.sh [FILE]
#
# What is signed is checked with ssh-keygen. The proofs are those of RFC 6962: a leaf is the SHA-256 of a zero byte and
# the event, a node that of a one byte and the two hashes below it, and the topmost is what the server has signed.

set -eu
LC_ALL=C
export LC_ALL

bad() {
    printf 'BAD: %s\n' "$*" >&2
    exit 1
}

original=${1-}
case $original in
'' | /*) ;;
*) original=$PWD/$original ;;
esac
case $0 in
*/*) cd "${0%/*}" ;;
esac

digest() { # of standard input, in hex
    set -- "$(sha256sum)"
    printf %s "${1%% *}"
}

signed() { # TEXT SIGNATURE WHO NAMESPACE [FILE WORD]: with FILE, by a key that counted at the time it says after WORD
    text=$1 signature=$2 who=$3 space=$4 at=${5:+-Overify-time=$(when "$5" "$6")}
    ssh-keygen -Y verify ${at:+"$at"} -f allowed_signers -I "$who" -n "$space" -s "$signature" <"$text" 2>&1 ||
        bad "$text is not what $who has signed with $signature"
}

when() { # FILE WORD: that time, as ssh-keygen takes it
    set -- "$(fact "$1" "$2")"
    before=$IFS IFS=-:TZ
    # shellcheck disable=SC2086 # cut into its numbers
    set -- $1
    IFS=$before
    printf '%s%s%s%s%s%sZ' "$@"
}

fact() { # FILE WORD: what follows the word, on the first line that begins with it
    while IFS= read -r line; do
        case $line in
        "$2 "*)
            printf %s "${line#"$2 "}"
            return
            ;;
        esac
    done <"$1"
}

raw() { # HEX: those bytes
    rest=$1
    set --
    while [ -n "$rest" ]; do
        tail=${rest#??}
        set -- "$@" "0x${rest%"$tail"}"
        rest=$tail
    done
    printf "$(printf '\\%03o' "$@")"
}

digits=ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/
unbase64() { # TEXT: a hash in base64, in hex
    left=$1
    set --
    while [ -n "$left" ]; do
        tail=${left#????}
        group=${left%"$tail"}
        left=$tail
        bits=0
        while [ -n "$group" ]; do
            one=${group%"${group#?}"}
            group=${group#?}
            [ "$one" = = ] && one=A
            before=${digits%%"$one"*}
            [ ${#before} -lt 64 ] || bad "this is not base64: $1"
            bits=$((bits * 64 + ${#before}))
        done
        set -- "$@" "$bits"
    done
    all=$(printf %06x "$@")
    # A hash is 32 bytes; the padding stood for one more.
    [ ${#all} -eq 66 ] || bad "this is not a hash in base64"
    printf %s "${all%??}"
}

proven() { # NUMBER: event-NUMBER.json is in the log of the checkpoint
    IFS= read -r event <"event-$1.json" || :
    case $event in
    "{\"n\":$1,"*) ;;
    *) bad "event-$1.json is another event" ;;
    esac
    hash=$({ printf '\000' && printf %s "$event"; } | digest)
    node=$1 last=$((size - 1)) at=0
    while IFS= read -r line; do
        at=$((at + 1))
        case $at:$line in
        1:c2sp.org/tlog-proof@v1 | 2:"index $1") continue ;;
        1:* | 2:*) bad "event-$1.proof is not the proof of event $1" ;;
        *:) break ;;
        esac
        [ "$last" -gt 0 ] || bad "event-$1.proof has too many hashes"
        sibling=$(unbase64 "$line")
        if [ $((node % 2)) -eq 1 ] || [ "$node" -eq "$last" ]; then
            hash=$(raw "01$sibling$hash" | digest)
            while [ $((node % 2)) -eq 0 ] && [ "$node" -ne 0 ]; do
                node=$((node / 2)) last=$((last / 2))
            done
        else
            hash=$(raw "01$hash$sibling" | digest)
        fi
        node=$((node / 2)) last=$((last / 2))
    done <"event-$1.proof"
    [ "$last" -eq 0 ] && [ "$hash" = "$root" ] || bad "event $1 is not in the log that the checkpoint is of"
}

# Every file is what it was when the folder was made, and none is missing or added.
listed=' SHA256SUMS '
while IFS= read -r line; do
    name=${line#*  }
    [ -f "$name" ] && [ "$line" = "$(digest <"$name")  $name" ] || bad "$name is missing, or was changed"
    listed="$listed$name "
done <SHA256SUMS
for name in *; do
    case $listed in
    *" $name "*) ;;
    *) bad "$name does not belong here" ;;
    esac
done
for name in allowed_signers receipt receipt.sig receipt.proof content.sig checkpoint checkpoint.sig; do
    case $listed in
    *" $name "*) ;;
    *) bad "$name is missing" ;;
    esac
done

# The receipt, and the head of the log.
server=$(fact receipt server)
number=$(fact receipt event)
signed receipt receipt.sig "$server" receipt@sealdrop receipt received
signed checkpoint checkpoint.sig "$server" checkpoint@sealdrop
{
    read -r origin && read -r size && read -r root
} <checkpoint || bad "the checkpoint is cut short"
[ "$origin" = "$server/audit" ] || bad "the checkpoint is another server's"
root=$(unbase64 "$root")

# The events. The receipt's own says which text the sender was given.
[ -f "event-$number.json" ] || bad "the event of the receipt is missing"
events=0
for name in event-*.json; do
    name=${name#event-}
    proven "${name%.json}"
    events=$((events + 1))
done
IFS= read -r event <"event-$number.json" || :
case $event in
*"\"receipt_sha256\":\"$(digest <receipt)\""*) ;;
*) bad "the log says that the receipt was another one" ;;
esac

# The sender's own signature, if it has made one: the server says that it checked this very file.
sender=$(fact receipt sender)
sender=${sender%% *}
if [ -f origin.receipt ]; then
    signed origin.receipt origin.receipt.sig "$server" receipt@sealdrop origin.receipt received
    over=$(fact origin.receipt signs)
    [ "${over%% *}" = "$(fact receipt receipt)" ] || bad "origin.receipt is of another file's signature"
    [ "$(fact origin.receipt sha256)" = "$(digest <origin.sig)" ] || bad "origin.sig is not what was sent"
elif [ -f origin.sig ]; then
    by=$(fact receipt signed)
    [ "${by#* }" = "$(digest <origin.sig)" ] || bad "origin.sig is not what was sent"
fi

# That what was sent is destroyed, if the server says so.
if [ -f destroyed ]; then
    last=key-destroyed
    [ "$(fact destroyed key-destroyed)" != none ] || last=destroyed
    signed destroyed destroyed.sig "$server" destroyed@sealdrop destroyed "$last"
    [ "$(fact destroyed drop)" = "$(fact receipt drop)" ] || bad "destroyed is another drop's"
    number=$(fact destroyed event)
    [ -f "event-$number.json" ] || bad "the event of the certificate is missing"
    IFS= read -r event <"event-$number.json" || :
    case $event in
    *"\"certificate_sha256\":\"$(digest <destroyed)\""*) ;;
    *) bad "the log says that the certificate was another one" ;;
    esac
    printf 'Destroyed on %s, its key: %s\n' "$(fact destroyed destroyed)" "$(fact destroyed key-destroyed)"
fi

# The file itself.
if [ -n "$original" ]; then
    [ "$(digest <"$original")" = "$(fact receipt sha256)" ] || bad "$original is not what was sent"
    signed "$original" content.sig "$server" content@sealdrop receipt received
    if [ -f origin.sig ]; then
        signed "$original" origin.sig "$sender" origin@sealdrop
    fi
    printf 'GOOD: %s is what %s sent as %s, and %s has received it: receipt %s\n' \
        "$original" "$sender" "$(fact receipt path)" "$server" "$(fact receipt receipt)"
else
    printf 'GOOD: %s has received %s from %s: receipt %s\n' \
        "$server" "$(fact receipt path)" "$sender" "$(fact receipt receipt)"
    printf 'Not checked: a file. Give it to this script to see that it is what was sent.\n'
fi
printf '%s events of the log are here, and are in it as they stand here.\n' "$events"

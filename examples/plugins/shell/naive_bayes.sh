#!/bin/sh
# Naive Bayes for tables, as a Chorus plugin of one file: POSIX sh and awk, messages as lines of a file, the frame as CSV.
# Numbers are taken as normally distributed in each class, categories are counted, missing values are passed over.
set -eu
LC_ALL=C
export LC_ALL
here="${CHORUS_RUN_DIR:-}"
running=

# Functions of all the awk programs.
# shellcheck disable=SC2016  # awk's own variables
LIBRARY='
# json(TEXT): the text as a JSON string.
function json(text,   out, i, c) {
  out = ""
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    if (c == "\"" || c == "\\") c = "\\" c
    else if (c < " ") c = sprintf("\\u%04x", index(CONTROLS, c))
    out = out c
  }
  return "\"" out "\""
}
# record(FILE): reads the next row of a CSV file into FIELD[1…]; returns their number, 0 at the end.
function record(file,   line, more, copy, n, i) {
  if ((getline line < file) <= 0) return 0
  for (copy = line; gsub(/"/, "", copy) % 2 && (getline more < file) > 0; copy = line) line = line "\n" more
  sub(/\r$/, "", line)
  for (n = 1; ; n++) {
    FIELD[n] = ""
    if (substr(line, 1, 1) == "\"") {
      line = substr(line, 2)
      while ((i = index(line, "\"")) > 0) {
        FIELD[n] = FIELD[n] substr(line, 1, i - 1)
        line = substr(line, i + 1)
        if (substr(line, 1, 1) != "\"") break
        FIELD[n] = FIELD[n] "\""
        line = substr(line, 2)
      }
      if (substr(line, 1, 1) != ",") return n
      line = substr(line, 2)
    } else {
      if ((i = index(line, ",")) == 0) { FIELD[n] = line; return n }
      FIELD[n] = substr(line, 1, i - 1)
      line = substr(line, i + 1)
    }
  }
}
# clip(TEXT, BYTES): its start, without a part of a character at the end.
function clip(text, bytes) {
  if (length(text) <= bytes) return text
  text = substr(text, 1, bytes)
  sub(/[\300-\377][\200-\277]*$/, "", text)
  return text
}
function is_number(text) { return text ~ /^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$/ }
BEGIN { for (i = 1; i < 32; i++) CONTROLS = CONTROLS sprintf("%c", i) }
'

# FLATTEN: prints each value of a JSON document as PATH, a tab, the value: info.outcome	species
# shellcheck disable=SC2016
FLATTEN='
{ text = text $0 "\n" }
END { at = 1; value("") }
function blank() { while (substr(text, at, 1) ~ /^[ \t\r\n]$/) at++ }
function below(path, key) { return path == "" ? key : path "." key }
function value(path,   c, key, n) {
  blank()
  c = substr(text, at, 1)
  if (c == "{" || c == "[") {
    at++
    for (n = 0; ; n++) {
      blank()
      if (substr(text, at, 1) == ",") { at++; blank() }
      if (substr(text, at, 1) ~ /^[]}]$/) { at++; return }
      if (at > length(text)) exit 1
      key = n
      if (c == "{") { key = string(); blank(); at++ }
      value(below(path, key))
    }
  }
  if (c == "\"") { key = string(); gsub(/[\t\n]/, " ", key); print path "\t" key; return }
  if (!match(substr(text, at), /^[-+.0-9A-Za-z]+/)) exit 1
  print path "\t" substr(text, at, RLENGTH)
  at += RLENGTH
}
function string(   out, c) {
  for (at++; (c = substr(text, at, 1)) != "\""; at++) {
    if (c == "") exit 1
    if (c == "\\") {
      c = substr(text, ++at, 1)
      if (c == "u") { c = utf8(unit()) } else if (c == "n") c = "\n"; else if (c == "t") c = "\t"; else if (c == "r") c = "\r"
      else if (c == "b" || c == "f") c = " "
    }
    out = out c
  }
  at++
  return out
}
function unit(   i, n) {
  for (i = 1; i <= 4; i++) n = n * 16 + index("0123456789abcdef", tolower(substr(text, at + i, 1))) - 1
  at += 4
  if (n >= 55296 && n < 56320 && substr(text, at + 1, 2) == "\\u") { at += 2; n = 65536 + (n - 55296) * 1024 + unit() - 56320 }
  return n
}
function utf8(n) {
  if (n < 128) return sprintf("%c", n)
  if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
  if (n < 65536) return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
  return sprintf("%c%c%c%c", 240 + int(n / 262144), 128 + int(n / 4096) % 64, 128 + int(n / 64) % 64, 128 + n % 64)
}
'

# LOOK: reads the training rows once. Writes a line for each column that can be learned from: N or C, position, name.
# shellcheck disable=SC2016
LOOK='
BEGIN {
  file = ENVIRON["CHORUS_DATA_DIR"] "/train.csv"
  outcome = ENVIRON["OUTCOME"]
  columns = record(file)
  for (i = 1; i <= columns; i++) {
    gsub(/[\t\n]/, " ", FIELD[i])
    name[i] = FIELD[i]
    number[i] = 1
    if (FIELD[i] == outcome) label = i
    list = list (i > 1 ? ", " : "") FIELD[i]
  }
  if (!label) { print "info.outcome names the column " json(outcome) "; the frame has " list; exit 69 }
  while (record(file)) {
    if (FIELD[label] == "") continue
    rows++
    if (!seen[label, FIELD[label]]++) classes++
    for (i = 1; i <= columns; i++) {
      if (FIELD[i] == "") continue
      if (!is_number(FIELD[i])) number[i] = 0
      if (i != label && distinct[i] <= 50 && !seen[i, FIELD[i]]++) distinct[i]++
    }
  }
  if (rows < 10) { print rows + 0 " training rows have a value in " json(outcome) "; 10 are needed"; exit 69 }
  if (classes < 2) { print "the column " json(outcome) " holds one value only: there is nothing to tell apart"; exit 65 }
  for (i = 1; i <= columns; i++) {
    if (i == label || distinct[i] < 2) continue
    if (number[i]) kept = kept "N\t" i "\t" name[i] "\n"
    else if (distinct[i] <= 50 && distinct[i] <= rows / 2) kept = kept "C\t" i "\t" name[i] "\n"
  }
  if (kept == "") { print "no column but " json(outcome) " can be learned from"; exit 69 }
  print "L\t" label "\t" outcome
  print "R\t" rows
  printf "%s", kept
}
'

# LEARN: reads the training rows again and the held-back rows once; writes the model, and a line for each metric.
# shellcheck disable=SC2016
LEARN='
# tell(PERCENT): a progress message.
function tell(percent) {
  printf "{\"type\": \"progress\", \"data\": {\"percent\": %d, \"step\": %d, \"total_steps\": %d}}\n", percent, rows, total >> messages
  close(messages)
}
function labelled(file) {
  while (record(file)) if (FIELD[label] != "") return 1
  return 0
}
function learn(   c, i, v) {
  c = FIELD[label]
  if (!(c in count)) order[++classes] = c
  count[c]++
  rows++
  for (i = 1; i <= columns; i++) {
    if ((v = FIELD[position[i]]) == "") continue
    if (kind[i] == "C") {
      if (!((i, v) in known)) { known[i, v] = 1; value[i, ++values[i]] = v }
      have[i, c]++
      times[i, c, v]++
    } else {
      have[i, c]++; sum[i, c] += v; square[i, c] += v * v
      all[i]++; allsum[i] += v; allsquare[i] += v * v
    }
  }
}
function settle(   i, k, c, spread) {
  for (i = 1; i <= columns; i++) {
    if (kind[i] == "C") continue
    spread = allsquare[i] / all[i] - (allsum[i] / all[i]) ^ 2
    for (k = 1; k <= classes; k++) {
      c = order[k]
      mean[i, c] = have[i, c] ? sum[i, c] / have[i, c] : allsum[i] / all[i]
      variance[i, c] = (have[i, c] > 1 ? square[i, c] / have[i, c] - mean[i, c] ^ 2 : spread)
      if (variance[i, c] < spread / 10000) variance[i, c] = spread / 10000
    }
  }
}
function score(c,   i, v, s) {
  s = log(count[c] / rows)
  for (i = 1; i <= columns; i++) {
    if ((v = FIELD[position[i]]) == "") continue
    if (kind[i] == "C") {
      if ((i, v) in known) s += log((times[i, c, v] + smoothing) / (have[i, c] + smoothing * values[i]))
    } else if (is_number(v)) {
      s -= (log(6.283185307179586 * variance[i, c]) + (v - mean[i, c]) ^ 2 / variance[i, c]) / 2
    }
  }
  return s
}
function judge(   k, c, best, mass) {
  judged++
  for (k = 1; k <= classes; k++) {
    point[k] = score(order[k])
    if (k == 1 || point[k] > point[best]) best = k
  }
  for (k = 1; k <= classes; k++) { mass += exp(point[k] - point[best]); if (order[k] == FIELD[label]) c = k }
  right += (order[best] == FIELD[label])
  if (c) { loss += log(mass) - (point[c] - point[best]); lossy++ }
  common += (FIELD[label] == commonest)
}
function write(file,   i, k, j, c) {
  printf "{\"format\": \"naive-bayes-1\", \"outcome\": %s, \"smoothing\": %d, \"classes\": {", json(outcome), smoothing > file
  for (k = 1; k <= classes; k++) printf "%s%s: %d", (k > 1 ? ", " : ""), json(order[k]), count[order[k]] > file
  printf "},\n \"columns\": {" > file
  for (i = 1; i <= columns; i++) {
    printf "%s\n  %s: {\"kind\": \"%s\"", (i > 1 ? "," : ""), json(name[i]), (kind[i] == "C" ? "category" : "number") > file
    for (k = 1; k <= classes; k++) {
      c = order[k]
      printf "%s%s: ", (k > 1 ? ", " : ", \"of\": {"), json(c) > file
      if (kind[i] == "N") { printf "{\"mean\": %.10g, \"variance\": %.10g}", mean[i, c], variance[i, c] > file; continue }
      printf "{" > file
      for (j = 1; j <= values[i]; j++) printf "%s%s: %d", (j > 1 ? ", " : ""), json(value[i, j]), times[i, c, value[i, j]] > file
      printf "}" > file
    }
    printf "}}" > file
  }
  printf "\n}}\n" > file
  close(file)
}
BEGIN {
  messages = ENVIRON["CHORUS_MESSAGES_FILE"]
  smoothing = ENVIRON["SMOOTHING"]
  while ((getline line < ENVIRON["COLUMNS_FILE"]) > 0) {
    split(line, part, "\t")
    if (part[1] == "L") { label = part[2]; outcome = part[3] }
    else if (part[1] == "R") total = part[2]
    else { kind[++columns] = part[1]; position[columns] = part[2]; name[columns] = part[3] }
  }
  train = ENVIRON["CHORUS_DATA_DIR"] "/train.csv"
  record(train)
  while (labelled(train)) {
    learn()
    if (int(rows * 9 / total) > told) { told = int(rows * 9 / total); tell(told * 10) }
  }
  settle()
  for (k = 1; k <= classes; k++) if (k == 1 || count[order[k]] > count[commonest]) commonest = order[k]
  held = ENVIRON["CHORUS_DATA_DIR"] "/eval.csv"
  record(held)
  while (labelled(held)) judge()
  write(ENVIRON["CHORUS_OUT_DIR"] "/model.json")
  if (judged) printf "accuracy\t%.6f\nmajority_accuracy\t%.6f\n", right / judged, common / judged
  if (lossy) printf "log_loss\t%.6f\n", loss / lossy
  printf "rows\t%d\n", rows
}
'

# quoted TEXT BYTES: the text, cut to so many bytes, as a JSON string.
# shellcheck disable=SC2016
quoted() { TEXT=$1 awk "$LIBRARY"'BEGIN { printf "%s", json(clip(ENVIRON["TEXT"], '"$2"')) }'; }
say() { printf '{"type": "%s", "data": {%s}}\n' "$1" "$2" >>"$CHORUS_MESSAGES_FILE"; }
note() { printf '%s\n' "$*" >&2; }

# end CODE TEXT: says why there is no model, and ends with the code that says whose fault it is.
end() {
  note "$2"
  case $1 in
    69) say DATA_REPORT "\"applicable\": false, \"reason\": $(quoted "$2" 250)" ;;
    64) say ERROR_REPORT "\"reason\": \"BadConfiguration\", \"detail\": $(quoted "$2" 4000)" ;;
    *) say ERROR_REPORT "\"reason\": \"BadData\", \"detail\": $(quoted "$2" 4000)" ;;
  esac
  exit "$1"
}

# in_background PROGRAM OUT: runs an awk program so that SIGTERM is not held up by it; returns its exit status.
in_background() {
  # SIGTERM may come as soon as the program runs, before its number could be kept: $! is there at once.
  running=1
  awk "$LIBRARY$1" >"$2" &
  status=0
  wait "$!" || status=$?
  running=
  return "$status"
}

# There is no half-learned state worth keeping: the next attempt counts again, in seconds.
stopped() {
  [ -z "$running" ] || kill "${!-}" 2>/dev/null || true
  note "stopped; the next attempt begins again"
  exit 75
}

describe() {
  # A message is one line.
  say ONLINE_REPORT "$(printf '%s' \
    '"id": "naive-bayes", "name": "Naive Bayes", "type": "CLASSIFICATION", ' \
    '"description": "Tells the outcome of a row by counting categories and averaging numbers.", ' \
    '"parameters": {"smoothing": 1}, "needed_columns": [], "needed_info": ["outcome"], "min_rows": 10, ' \
    '"parameters_schema": {"properties": {"smoothing": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1, ' \
    '"description": "Added to every count of a category."}}}')"
}

# told PATH: a value of TRAINING_DATA; nothing when there is none.
told() { printf '%s\n' "$given" | KEY=$1 awk '{ i = index($0, "\t") } substr($0, 1, i - 1) == ENVIRON["KEY"] { print substr($0, i + 1); exit }'; }

card() {
  # shellcheck disable=SC2016  # backquotes of Markdown
  printf '# Naive Bayes classifier of `%s`\n\nCounted from %s rows of the frame %s. `model.json` holds all of it:\n' "$OUTCOME" "$rows" "$(told training_df_name)"
  printf 'the rows of each class, mean and variance of each number, and the counts of each category.\n\n| on the rows held back | |\n| --- | --- |\n'
  awk -F '\t' '$1 != "rows" { printf "| %s | %.4f |\n", $1, $2 }' "$here/result.tsv"
}

train() {
  given=$(awk "$FLATTEN" "$CHORUS_TRAINING_DATA") || end 64 "$CHORUS_TRAINING_DATA is no JSON document"
  unknown=$(printf '%s\n' "$given" | sed -n 's/^parameters\.\([^	]*\)	.*/\1/p' | grep -vx smoothing | head -n 1) || true
  [ -z "$unknown" ] || end 64 "parameters.$unknown: there is no such parameter; there is smoothing"
  SMOOTHING=$(told parameters.smoothing)
  SMOOTHING=${SMOOTHING:-1}
  case $SMOOTHING in
    [1-9] | [1-9][0-9] | 100) ;;
    *) end 64 "parameters.smoothing: $SMOOTHING is not a whole number from 1 to 100" ;;
  esac
  OUTCOME=$(told info.outcome)
  [ -n "$OUTCOME" ] || end 69 "spec.dataset.info has no key 'outcome': set it to the name of the column to predict"
  COLUMNS_FILE=$here/columns.tsv
  export SMOOTHING OUTCOME COLUMNS_FILE
  mkdir -p "$here" "$CHORUS_OUT_DIR"

  in_background "$LOOK" "$COLUMNS_FILE" || end "$status" "$(cat "$COLUMNS_FILE")"
  say DATA_REPORT '"applicable": true'
  say TRAINING_START ''
  in_background "$LEARN" "$here/result.tsv" || { note "awk ended with $status"; exit 70; }
  rows=$(sed -n 's/^rows	//p' "$here/result.tsv")
  card >"$CHORUS_OUT_DIR/README.md"
  (cd "$CHORUS_OUT_DIR" && sha256sum README.md model.json >SHA256SUMS)
  digest=$(sha256sum <"$CHORUS_OUT_DIR/SHA256SUMS")
  metrics=$(awk -F '\t' '$1 != "rows" { printf "%s\"%s\": %s", (n++ ? ", " : ""), $1, $2 }' "$here/result.tsv")
  say progress "\"percent\": 100, \"metrics\": {$metrics}"
  say MODEL_NAME "\"model_name\": \"naive-bayes\", \"digest\": \"sha256:${digest%% *}\", \"metrics\": {$metrics}"
}

trap stopped TERM
for name in CHORUS_ROLE CHORUS_MESSAGES_FILE; do
  eval "[ -n \"\${$name:-}\" ]" || { note "the environment variable $name is not set; Chorus sets it in each of its pods"; exit 64; }
done
case $CHORUS_ROLE in
  describe) describe ;;
  train) train ;;
  *) note "CHORUS_ROLE is $CHORUS_ROLE; it must be train or describe"; exit 64 ;;
esac

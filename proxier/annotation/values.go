package annotation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The readers of values change what into points to only if they return no error.
// Their errors say what is wanted.

func readDuration(into *time.Duration, value string, least, most time.Duration) error {
	d, err := time.ParseDuration(strings.TrimSpace(value))
	if err != nil || d < least || d > most {
		return fmt.Errorf("want a duration from %s to %s", short(least), short(most))
	}
	*into = d
	return nil
}

// readSeconds reads a duration that the kernel takes in seconds.
func readSeconds(into *time.Duration, value string, least, most time.Duration) error {
	var d time.Duration
	if err := readDuration(&d, value, least, most); err != nil {
		return err
	}
	if d%time.Second != 0 {
		return fmt.Errorf("want whole seconds, not %s", d)
	}
	*into = d
	return nil
}

// readDurationOr also knows off, which stands for a duration that is out of
// bounds.
func readDurationOr(off time.Duration, into *time.Duration, value string, least, most time.Duration) error {
	if value == "off" {
		*into = off
		return nil
	}
	if readDuration(into, value, least, most) != nil {
		return fmt.Errorf("want off, or a duration from %s to %s", short(least), short(most))
	}
	return nil
}

func readInt(into *int, value string, least, most int) error {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n < least || n > most {
		return fmt.Errorf("want %d to %d", least, most)
	}
	*into = n
	return nil
}

// readDecimal knows no exponents, no infinity and the like.
func readDecimal(into *float64, value string, least, most float64) error {
	value = strings.TrimSpace(value)
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || strings.Trim(value, "0123456789.") != "" || f < least || f > most {
		return fmt.Errorf("want %s to %s", decimal(least), decimal(most))
	}
	*into = f
	return nil
}

// readPerSecond reads 10/s.
func readPerSecond(into *float64, value string, least, most float64) error {
	number, found := strings.CutSuffix(value, "/s")
	if !found || readDecimal(into, number, least, most) != nil {
		return fmt.Errorf("want N/s with N from %s to %s", decimal(least), decimal(most))
	}
	return nil
}

// readShare reads 20% as 0.2.
func readShare(into *float64, value string, least, most float64) error {
	number, found := strings.CutSuffix(value, "%")
	var percent float64
	if !found || readDecimal(&percent, number, least*100, most*100) != nil {
		return fmt.Errorf("want a share from %s%% to %s%%", decimal(least*100), decimal(most*100))
	}
	*into = percent / 100
	return nil
}

// readChoice reads one of a few words.
func readChoice[T any](into *T, value string, words []string, meanings map[string]T) error {
	meaning, known := meanings[value]
	if !known {
		return fmt.Errorf("want %s", either(words))
	}
	*into = meaning
	return nil
}

// items are those of a comma separated list, without the blanks around them.
func items(list string) []string {
	all := strings.Split(list, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// either is "a, b or c".
func either(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// short is a duration as people write it: 1h, not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// maxShown is how much of a value a message shows: an annotation may have 256 KiB.
const maxShown = 60

// quoted is a text of a Service for a message: nothing in it can end the line, or
// make it long.
func quoted(text string) string { return strconv.Quote(abridged(text)) }

func abridged(text string) string {
	if len(text) <= maxShown {
		return text
	}
	end := maxShown
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

package render

import (
	"errors"
	"strings"
)

// splitCommand splits a command line as Python's shlex.split does in POSIX mode
// without comments: single quotes keep everything, double quotes let a backslash
// escape a quote and itself, and a backslash elsewhere takes the next character.
func splitCommand(line string) ([]any, error) {
	words := []any{}
	var word strings.Builder
	inWord := false
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case ' ', '\t', '\r', '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\\':
			if i++; i == len(runes) {
				return nil, errors.New("no character follows the last backslash")
			}
			word.WriteRune(runes[i])
			inWord = true
		case '\'', '"':
			end, ok := quoted(runes, i, &word)
			if !ok {
				return nil, errors.New("a quotation is not closed")
			}
			i, inWord = end, true
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted reads from an opening quote to its end, whose place it returns.
func quoted(runes []rune, start int, word *strings.Builder) (int, bool) {
	quote := runes[start]
	for i := start + 1; i < len(runes); i++ {
		switch {
		case runes[i] == quote:
			return i, true
		case runes[i] == '\\' && quote == '"':
			if i++; i == len(runes) {
				return i, false
			}
			if runes[i] != '"' && runes[i] != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(runes[i])
		default:
			word.WriteRune(runes[i])
		}
	}
	return len(runes), false
}

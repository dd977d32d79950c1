package kvroute

/*
#include <kvroute.h>
*/
import "C"

import (
	"strings"
	"unsafe"
)

// CheckDocument checks a configuration document, YAML or JSON, without making a router of it.
func CheckDocument(document string) error {
	s := newSeat(0)
	defer s.free()
	text := s.arena.text(document)
	return s.check(C.kvroute_config_check(text.data, text.len, s.error))
}

// ConfigSchema is the JSON Schema of configuration documents.
func ConfigSchema() (string, error) {
	s := newSeat(0)
	defer s.free()
	schema, err := s.written(func(buffer *C.char, capacity C.size_t, written *C.size_t) C.int32_t {
		return C.kvroute_config_schema(buffer, capacity, written, s.error)
	})
	return string(schema), err
}

// ConfigFromEnv reads the environment variables of llm-d's first scheduler; environ is of the form of os.Environ, and
// may be all of it. The configuration has no pods. The notes are about variables that are known but mean nothing here.
//
// Errors: ErrInvalidInput for misspelt names and values that are none.
func ConfigFromEnv(environ []string) (Config, []string, error) {
	s := newSeat(0)
	defer s.free()
	names, values := s.environment(environ)
	return s.read(func(document []byte, written *C.size_t, notes []byte, notesWritten *C.size_t) C.int32_t {
		return C.kvroute_config_from_env(unsafe.SliceData(names), unsafe.SliceData(values), C.size_t(len(names)),
			chars(document), C.size_t(len(document)), written, chars(notes), C.size_t(len(notes)), notesWritten, s.error)
	})
}

// ConfigFromEndpointPicker reads llm-d's configuration, an EndpointPickerConfig in YAML or JSON. The configuration has
// no domains and no pods. The notes are a line for each thing that does not map, or means something else here.
//
// Errors: ErrInvalidInput with the place of what llm-d would refuse as well, and of what cannot be done here.
func ConfigFromEndpointPicker(document string) (Config, []string, error) {
	s := newSeat(0)
	defer s.free()
	text := s.arena.text(document)
	return s.read(func(document []byte, written *C.size_t, notes []byte, notesWritten *C.size_t) C.int32_t {
		return C.kvroute_config_from_endpoint_picker(text.data, text.len, chars(document), C.size_t(len(document)),
			written, chars(notes), C.size_t(len(notes)), notesWritten, s.error)
	})
}

// read is a configuration that answer writes, with notes on how it was read.
func (s *seat) read(
	answer func(document []byte, written *C.size_t, notes []byte, notesWritten *C.size_t) C.int32_t,
) (Config, []string, error) {
	document, notes := make([]byte, 256), make([]byte, 256)
	var written, notesWritten C.size_t
	for {
		status := answer(document, &written, notes, &notesWritten)
		if status == C.KVROUTE_OK {
			break
		}
		if status != C.KVROUTE_BUFFER_TOO_SMALL {
			return Config{}, nil, s.failure(status)
		}
		// One of them was too small, and its number says so.
		document = make([]byte, max(len(document), int(written)))
		notes = make([]byte, max(len(notes), int(notesWritten)))
	}
	var config Config
	var said []string
	if err := decoded(document[:written], &config); err != nil {
		return Config{}, nil, err
	}
	if err := decoded(notes[:notesWritten], &said); err != nil {
		return Config{}, nil, err
	}
	return config, said, nil
}

// environment is names and values of variables, in C memory.
func (s *seat) environment(environ []string) (names, values []C.kvroute_str) {
	names, values = array[C.kvroute_str](&s.arena, len(environ)), array[C.kvroute_str](&s.arena, len(environ))
	for at, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		names[at], values[at] = s.arena.text(name), s.arena.text(value)
	}
	return names, values
}

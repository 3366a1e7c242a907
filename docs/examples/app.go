// An app that keeps its state across restarts: the whole of its side of the contract. Try `curl localhost:8080/`.
package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"
)

type State struct {
	Nodes    map[string]map[string]float64 `json:"nodes"`
	Metrics  map[string]int                `json:"metrics"`
	Snapshot *struct{ ID string }          `json:"snapshot,omitempty"`
}

func main() {
	text, err := os.ReadFile(os.Getenv("RESONANCE_RESTORE_FILE"))
	if os.IsNotExist(err) {
		text, err = []byte(`{"nodes": {"a": {"phase": 0.25}}, "metrics": {"visits": 0}}`), nil
	}
	var state State
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		log.Fatal(err) // never start empty because the file could not be read
	}
	restoredFrom, incarnation := "none", rand.Text()
	if state.Snapshot != nil {
		restoredFrom, state.Snapshot = state.Snapshot.ID, nil
	}
	var mutex sync.Mutex // an export is never half of a change
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		if r.URL.Path != "/resonance/state" { // every other page is a visit and changes the state
			state.Metrics["visits"]++
		}
		w.Header().Set("Resonance-Incarnation", incarnation)
		w.Header().Set("Resonance-Restored-From", restoredFrom)
		json.NewEncoder(w).Encode(state)
	})
	log.Fatal(http.ListenAndServe(":"+cmp.Or(os.Getenv("PORT"), "8080"), nil))
}

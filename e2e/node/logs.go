package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// serveLogs answers the API server's requests for containers' logs, as a
// kubelet does: GET /containerLogs/{namespace}/{pod}/{container}.
func (n *Node) serveLogs() error {
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n.logs = listener
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.containerLogs)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends when the listener is closed
	return nil
}

func (n *Node) containerLogs(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	var found *pod
	for _, p := range n.pods {
		if p.spec.Namespace == r.PathValue("namespace") && p.spec.Name == r.PathValue("pod") {
			found = p
		}
	}
	n.mu.Unlock()
	if found == nil {
		http.Error(w, "pod not found", http.StatusNotFound)
		return
	}
	data, err := os.ReadFile(found.logPath(r.PathValue("container")))
	if err != nil && !os.IsNotExist(err) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	lines := strings.SplitAfter(string(data), "\n")
	if tail, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil && tail >= 0 {
		lines = lines[max(0, len(lines)-tail-1):]
	}
	_, _ = w.Write([]byte(strings.Join(lines, "")))
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

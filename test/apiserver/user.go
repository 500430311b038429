package apiserver

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
)

// A User is somebody whom the API server knows, with the means to talk to it.
type User struct {
	*Client // connects from inside the API server's namespace

	Name       string
	Token      string // bearer token
	Kubeconfig string // path, for programs inside that namespace
}

// newUser makes a user with a token and a kubeconfig.
func (cp *ControlPlane) newUser(name string) (*User, error) {
	u := &User{Name: name, Token: rand.Text(), Kubeconfig: filepath.Join(cp.dir, name+".kubeconfig")}
	config := &rest.Config{
		Host:            cp.URL,
		BearerToken:     u.Token,
		TLSClientConfig: rest.TLSClientConfig{CAData: cp.CA},
		Dial:            cp.ns.DialContext,
		QPS:             -1, // no limit
	}
	var err error
	if u.Client, err = newClient(config); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(kubeconfigFormat, base64.StdEncoding.EncodeToString(cp.CA), cp.URL, name, u.Token)
	return u, os.WriteFile(u.Kubeconfig, []byte(text), 0o600)
}

// kubeconfigFormat takes the CA, the URL, the user's name and the token.
const kubeconfigFormat = `apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    certificate-authority-data: %[1]s
    server: %[2]s
users:
- name: %[3]s
  user:
    token: %[4]s
contexts:
- name: test
  context:
    cluster: test
    user: %[3]s
current-context: test
`

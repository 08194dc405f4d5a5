// See admission.h.
#include "services/ike/v2/admission.h"

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include <stdlib.h>

struct admission {
	struct cookie_jar cookies;
};

struct admission *admission_new(void)
{
	return allocate(sizeof(struct admission));
}

void admission_free(struct admission **admission)
{
	if (*admission) {
		wipe(*admission, sizeof **admission);
		free(*admission);
		*admission = NULL;
	}
}

struct cookie_jar *admission_cookies(struct admission *admission)
{
	return &admission->cookies;
}

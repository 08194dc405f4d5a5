// See sorted.h.
#include "services/resource/sorted.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"

struct node {
	struct node *left, *right;
	void *value;
	uint32_t length;
	uint8_t height; // of a leaf 1
	uint8_t key[];
};

struct sorted {
	struct node *root;
	size_t count;
};

static int compare(struct bytes key, const struct node *node)
{
	size_t common = key.length < node->length ? key.length : node->length;
	int order = common ? memcmp(key.data, node->key, common) : 0;
	return order ? order : (key.length > node->length) - (key.length < node->length);
}

static int height_of(const struct node *node)
{
	return node ? node->height : 0;
}

static void measure(struct node *node)
{
	int left = height_of(node->left), right = height_of(node->right);
	node->height = (uint8_t)((left > right ? left : right) + 1);
}

static struct node *rotate_right(struct node *node)
{
	struct node *top = node->left;
	node->left = top->right;
	top->right = node;
	measure(node);
	measure(top);
	return top;
}

static struct node *rotate_left(struct node *node)
{
	struct node *top = node->right;
	node->right = top->left;
	top->left = node;
	measure(node);
	measure(top);
	return top;
}

// Whose subtrees differ by two at most: one was changed by one.
static struct node *balance(struct node *node)
{
	int lean = height_of(node->left) - height_of(node->right);
	invariant(lean >= -2 && lean <= 2);
	if (lean > 1) {
		if (height_of(node->left->left) < height_of(node->left->right)) {
			node->left = rotate_left(node->left);
		}
		return rotate_right(node);
	}
	if (lean < -1) {
		if (height_of(node->right->right) < height_of(node->right->left)) {
			node->right = rotate_right(node->right);
		}
		return rotate_left(node);
	}
	measure(node);
	return node;
}

static struct node *leaf(struct bytes key, void *value)
{
	struct node *node = allocate(sizeof *node + key.length);
	node->value = value;
	node->length = (uint32_t)key.length;
	node->height = 1;
	if (key.length > 0) {
		memcpy(node->key, key.data, key.length);
	}
	return node;
}

// The depth of the recursion is the height: 1.44 times the logarithm.
static struct node *insert(struct node *node, struct bytes key, void *value, bool *added)
{
	if (!node) {
		*added = true;
		return leaf(key, value);
	}
	int order = compare(key, node);
	if (order == 0) {
		return node;
	}
	struct node **side = order < 0 ? &node->left : &node->right;
	*side = insert(*side, key, value, added);
	return balance(node);
}

static struct node *take_first(struct node *node, struct node **first)
{
	if (!node->left) {
		*first = node;
		return node->right;
	}
	node->left = take_first(node->left, first);
	return balance(node);
}

static struct node *remove_key(struct node *node, struct bytes key, struct node **removed)
{
	if (!node) {
		return NULL;
	}
	int order = compare(key, node);
	if (order != 0) {
		struct node **side = order < 0 ? &node->left : &node->right;
		*side = remove_key(*side, key, removed);
		return balance(node);
	}
	*removed = node;
	if (!node->left || !node->right) {
		return node->left ? node->left : node->right;
	}
	struct node *next, *right = take_first(node->right, &next);
	next->left = node->left;
	next->right = right;
	return balance(next);
}

struct sorted *sorted_new(void)
{
	return allocate(sizeof(struct sorted));
}

static void free_nodes(struct node *node, void (*free_value)(void *))
{
	if (node) {
		free_nodes(node->left, free_value);
		free_nodes(node->right, free_value);
		if (free_value) {
			free_value(node->value);
		}
		free(node);
	}
}

void sorted_free(struct sorted **sorted, void (*free_value)(void *))
{
	if (*sorted) {
		free_nodes((*sorted)->root, free_value);
		free(*sorted);
		*sorted = NULL;
	}
}

bool sorted_insert(struct sorted *sorted, struct bytes key, void *value)
{
	invariant(value && key.length <= UINT32_MAX);
	bool added = false;
	sorted->root = insert(sorted->root, key, value, &added);
	sorted->count += added;
	return added;
}

void *sorted_remove(struct sorted *sorted, struct bytes key)
{
	struct node *removed = NULL;
	sorted->root = remove_key(sorted->root, key, &removed);
	if (!removed) {
		return NULL;
	}
	invariant(sorted->count > 0);
	sorted->count--;
	void *value = removed->value;
	free(removed);
	return value;
}

size_t sorted_count(const struct sorted *sorted)
{
	return sorted->count;
}

bool sorted_after(const struct sorted *sorted, struct bytes key, bool at, struct sorted_entry *entry)
{
	const struct node *best = NULL;
	for (const struct node *node = sorted->root; node;) {
		int order = compare(key, node);
		if (order < 0 || (order == 0 && at)) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	if (!best) {
		return false;
	}
	*entry = (struct sorted_entry){{best->key, best->length}, best->value};
	return true;
}

"""The trainers of chat and tagging: TRL's and transformers', with what is proved of them."""

//! Message templates: texts with `#{variables}` that sendings refer to by id.

pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod update;

use kite_domain::ids::TemplateId;
use kite_domain::slug::TenantId;
use kite_domain::template::TemplateSaved;
use kite_domain::text::Template;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::ToSchema;

use crate::problem::{Answer, Code, FieldError, Problem};
use crate::routes::contacts::check_length;
use crate::state::ApiState;

/// A template as a caller writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateBody {
    /// Its name, for people.
    #[schema(example = "배송 안내", max_length = 100)]
    pub name: String,
    /// For lms and e-mail.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub subject: Option<String>,
    /// With `#{variables}`: at most 100, in at most 200 places.
    #[schema(example = "#{name}님, 상품이 발송되었습니다.", max_length = 100_000)]
    pub text: String,
}

/// A template.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateView {
    /// Its id: 32 hexadecimal digits.
    #[schema(value_type = String, example = "0197c0de000070008000000000000003")]
    pub id: TemplateId,
    /// Its name.
    pub name: String,
    /// For lms and e-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The text.
    pub text: String,
    /// The variables that text and subject name.
    #[schema(value_type = Vec<String>)]
    pub variables: Vec<SmolStr>,
}

impl From<&TemplateSaved> for TemplateView {
    fn from(template: &TemplateSaved) -> Self {
        let texts = [Some(template.text.as_str()), template.subject.as_deref()];
        let mut variables: Vec<SmolStr> = texts
            .into_iter()
            .flatten()
            .filter_map(|text| Template::parse(text).ok())
            .flat_map(|parsed| parsed.variables().to_vec())
            .collect();
        variables.sort_unstable();
        variables.dedup();
        Self {
            id: template.template,
            name: template.name.clone(),
            subject: template.subject.clone(),
            text: template.text.clone(),
            variables,
        }
    }
}

const NAME_CHARACTERS_MAX: usize = 100;
const TEXT_CHARACTERS_MAX: usize = 100_000;
const SUBJECT_CHARACTERS_MAX: usize = 500;

impl TemplateBody {
    /// The template, or everything that is wrong with it.
    fn check(self, tenant: &TenantId, template: TemplateId) -> Answer<TemplateSaved> {
        let mut errors = Vec::new();
        check_length("name", &self.name, NAME_CHARACTERS_MAX, &mut errors);
        check_length(
            "subject",
            self.subject.as_deref().unwrap_or_default(),
            SUBJECT_CHARACTERS_MAX,
            &mut errors,
        );
        check_length("text", &self.text, TEXT_CHARACTERS_MAX, &mut errors);
        if self.name.trim().is_empty() {
            errors.push(FieldError::new("name", "empty", "a template needs a name"));
        }
        if self.text.trim().is_empty() {
            errors.push(FieldError::new("text", "empty", "a template needs a text"));
        }
        for (field, text) in [("text", Some(&self.text)), ("subject", self.subject.as_ref())] {
            if let Some(Err(error)) = text.map(|text| Template::parse_bounded(text)) {
                errors.push(FieldError::new(field, error.code(), error.to_string()));
            }
        }
        if let Some(first) = errors.first() {
            return Err(Problem::new(
                Code::Refused,
                format!("The template cannot be saved: {}.", first.detail),
            )
            .with_errors(errors));
        }
        Ok(TemplateSaved {
            tenant: tenant.clone(),
            template,
            name: self.name,
            subject: self.subject,
            text: self.text,
        })
    }
}

/// The tenant's template of this id, or the problem that there is none.
async fn find(state: &ApiState, tenant: &TenantId, id: &str) -> Answer<TemplateSaved> {
    let id: TemplateId = id.parse().map_err(|_| Problem::not_found("template"))?;
    let key = (tenant.clone(), id);
    state.find("template", |directory| directory.templates.get(&key).cloned()).await
}
